"""A golden folder: where its cases are, how weights and images are drawn from names, how arrays are compared.

The format is that of the folder's own README; nothing here knows a model.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.structs import Images

Arrays = dict[str, np.ndarray]

GAINS = (
    (r"class_embed", 2.0),
    (r"bbox_embed\.\d", 1.2),
    (r"bbox_embed", 1.7),
    (r"backbone.*\.conv3\.", 0.35),
    (r"backbone.*\.downsample\.", 1.0),
    (r"input_proj", 4.0),
    (r"out_proj|output_proj|linear2", 0.5),
    (r"[qk]_linear|attention_weights", 2.0),
)
UNDRAWN = r"attn\.(biases|relative_position_index)$"


class GoldenError(AssertionError):
    """A golden folder, or the runner's understanding of it, is at fault."""


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers that depend on the name alone."""
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return generator.standard_normal(shape, dtype=np.float32)


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights called `name`: scaled so that activations neither vanish nor explode."""
    z = normal(name, shape)
    if re.search(r"(query_embed|row_embed|col_embed)\.weight$|level_embed$", name):
        return z
    if len(shape) >= 2:
        axes = tuple(range(1, len(shape)))
        if shape[1] >= 16:
            z = z - z.mean(axes, keepdims=True, dtype=np.float64).astype(np.float32)
        gain = next((value for pattern, value in GAINS if re.search(pattern, name)), 1.7 if len(shape) == 4 else 1.0)
        weight = z * np.float32(gain / np.sqrt(np.prod(shape[1:])))
        if re.search(r"in_proj_weight$|qkv\.weight$", name):
            weight[: 2 * shape[0] // 3] *= np.float32(2)
        return weight
    if name.endswith("sampling_offsets.bias"):
        return z * np.float32(2)
    if "class_embed" in name:
        return z * np.float32(0.5) - np.float32(2)
    if name.endswith("running_var"):
        return np.abs(z) * np.float32(0.1) + np.float32(1)
    if name.endswith("weight"):
        return z * np.float32(0.1) + np.float32(1)
    return z * np.float32(0.05)


def image(name: str, height: int, width: int) -> np.ndarray:
    """The image called `name`, [3, height, width]: noise at four scales, about unit variance."""
    out = np.zeros((3, height, width), np.float32)
    for scale in (1, 4, 16, 64):
        z = normal(f"{name}/scale{scale}", (3, -(-height // scale), -(-width // scale)))
        out += np.float32(0.5) * z.repeat(scale, 1).repeat(scale, 2)[:, :height, :width]
    return out


class Record(dict):
    """A dict that remembers which keys were read, so that a failure can name those that were not."""

    def __init__(self, entries: Mapping):
        super().__init__(entries)
        self.read: set[str] = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.read.add(key)
        return super().get(key, default)

    def unread(self) -> list[str]:
        return sorted(self.keys() - self.read - {"note"})


@cache
def read_json(path: Path) -> dict:
    """A manifest, read once."""
    return json.loads(path.read_text())


@lru_cache(maxsize=2)
def drawn_weights(path: Path, case: str | None) -> Arrays:
    """The tensors of a manifest, or of one of its cases, by published name; aliases left out.

    Raises: GoldenError where the checksum is not the manifest's.
    """
    manifest = read_json(path)
    source = manifest if case is None else manifest["cases"][case]
    aliases, prefix = source.get("aliases", {}), source.get("draw_prefix", "")
    weights: Arrays = {}
    digest = hashlib.sha256()
    for name, shape, dtype in source["state_dict"]:
        if name in aliases or not dtype.startswith("float") or re.search(UNDRAWN, name):
            continue
        weights[name] = draw(prefix + name, tuple(shape))
        digest.update(weights[name].tobytes())
    if digest.hexdigest() != source["weights_sha256"]:
        _check_sum(source, weights, path)
    return weights


def _check_sum(source: Mapping, weights: Arrays, path: Path) -> None:
    """The README's second best check, for platforms where the last bit of a normal number differs."""
    total = sum(float(np.abs(value, dtype=np.float64).sum()) for value in weights.values())
    wanted = source.get("weights_abs_sum")
    if wanted is None or not np.isclose(total, wanted, rtol=1e-6):
        raise GoldenError(f"{path}: the drawn weights have another checksum, and sum {total} where {wanted} is wanted")


@dataclass(frozen=True)
class Case:
    """One case of a manifest; equal to another if it is the same case of the same folder."""

    root: Path = field(compare=False)
    folder: Path
    name: str

    @property
    def model(self) -> str:
        """The folder's path below the golden folder, `detr_r50` or `zoo/unit_se_layer`."""
        return self.folder.name if self.folder == self.root else self.folder.relative_to(self.root).as_posix()

    @property
    def id(self) -> str:
        return f"{self.model}/{self.name}"

    @property
    def manifest(self) -> dict:
        return read_json(self.folder / "manifest.json")

    @cached_property
    def config(self) -> Record:
        """The constructor arguments of the model."""
        return Record(self.manifest.get("config", {}))

    @cached_property
    def settings(self) -> Record:
        """What the case says about itself."""
        return Record(self.manifest["cases"][self.name])

    @cached_property
    def stored(self) -> Arrays:
        with np.load(self.folder / f"{self.name}.npz") as file:
            return dict(file)

    @property
    def outputs(self) -> list[str]:
        """Names, without `out.`, of the arrays to be reproduced."""
        return [name.removeprefix("out.") for name in self.settings["arrays"] if not name.startswith("in.")]

    def inputs(self) -> dict[str, jax.Array]:
        """The arrays that are handed in, by name without `in.`."""
        return {
            name.removeprefix("in."): jnp.asarray(value)
            for name, value in self.stored.items()
            if name.startswith("in.")
        }

    def weights(self) -> Arrays:
        """Published tensors by name, those of the case if it has its own."""
        own = "state_dict" in self.manifest["cases"][self.name]
        self.settings.read |= {"state_dict", "weights_sha256", "weights_abs_sum", "weights_count", "draw_prefix"}
        return drawn_weights(self.folder / "manifest.json", self.name if own else None)

    def images(self) -> Images:
        """The batch, zero padded at the bottom and the right to its largest height and width."""
        sizes = self.settings["image_sizes"]
        height, width = np.max(sizes, axis=0)
        pixels = np.zeros((len(sizes), height, width, 3), np.float32)
        valid = np.zeros((len(sizes), height, width), bool)
        for i, (h, w) in enumerate(sizes):
            pixels[i, :h, :w] = image(f"{self.settings['image_prefix']}/{i}", h, w).transpose(1, 2, 0)
            valid[i, :h, :w] = True
        return Images(jnp.asarray(pixels), jnp.asarray(valid))


def find_cases(root: Path) -> Iterator[Case]:
    """Every case of every manifest below a folder, in alphabetical order of the folders.

    Raises: GoldenError where there is none.
    """
    root = root.resolve()
    manifests = sorted(root.rglob("manifest.json"))
    if not manifests:
        raise GoldenError(f"no manifest.json below {root}; --golden wants a folder of golden cases")
    for path in manifests:
        for name in read_json(path)["cases"]:
            yield Case(root, path.parent, name)


def find_key_lists(root: Path) -> list[Path]:
    """The lists of published names below a folder."""
    return sorted(root.resolve().rglob("state_dict_keys/*.json"))


def model_and_case(case_id: str) -> tuple[str, str]:
    """The two halves of `Case.id`."""
    model, _, name = case_id.rpartition("/")
    return model, name
