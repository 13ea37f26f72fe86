"""Folders in Hugging Face's layout: DETR and Deformable DETR as the transformers library reads and writes them."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitjax.data.errors import DataError
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.formats import huggingface_tables as tables
from vitjax.formats.huggingface_config import classes_of, config_of, model_of
from vitjax.formats.huggingface_processor import processor_of, resize_of
from vitjax.formats.model_file import ModelFile
from vitjax.formats.published import from_published, to_published
from vitjax.formats.recognize import shapes_of, table_for, without_mask_head
from vitjax.formats.tensor_files import read_tensors, write_tensors

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # or parts of one, which <name>.index.json lists

Arrays = dict[str, np.ndarray]


def is_folder(path: Path) -> bool:
    """Whether the path is a folder with config.json and weights."""
    return (path / CONFIG).is_file() and _weights(path) is not None


def is_repository(name: str) -> bool:
    """Whether the text may be the name of a repository, owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def read_folder(path: Path) -> ModelFile:
    """The model in a folder; of a model that segments, the detector inside.

    Raises:
        DataError: a file cannot be read, or config.json has an option that there is not here.
        PublishedError: the tensors do not fit the model of config.json; all that do not are listed.
    """
    config = _read_json(path / CONFIG)
    model = model_of(config)
    resize, notes = resize_of(_read_json(path / PROCESSOR)) if (path / PROCESSOR).is_file() else (Resize(), ())
    tensors, more = without_mask_head(_read_weights(path))
    whose = tables.backbone_of(tensors)
    if isinstance(model, DeformableDETR):
        table = tables.deformable_detr(whose, refine=model.refine)
        if model.refine and config.get("tie_word_embeddings", True):
            tensors = tables.with_heads_of_all_layers(tensors, model.decoder_layers + model.two_stage, table)
    else:
        table = tables.detr(whose)
    return ModelFile(
        model=model,
        variables=from_published(tensors, like=shapes_of(model), table=table),
        classes=classes_of(config),
        table=table_for(model),
        resize=resize,
        postprocess=BestClass() if isinstance(model, DETR) else TopDetections(),
        notes=(*notes, *more),
    )


def write_folder(path: Path, file: ModelFile) -> None:
    """Writes a model as a folder that the transformers library loads; there must be nothing at the path.

    What leads the library to other numbers is padding: it leaks there as in the published code.

    Raises:
        DataError: the library has no such model, or there is something at the path already.
    """
    model, resize = file.model, file.resize
    if not isinstance(model, DETR | DeformableDETR) or not isinstance(resize, Resize):
        raise DataError(f"only DETR and DeformableDETR can be written for transformers; got {type(model).__name__}.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} is there already; name a folder that is not.")
    config, whose = config_of(model, file.classes)
    kind = "Detr" if isinstance(model, DETR) else "DeformableDetr"
    tensors = _tensors(model, file.variables, whose)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
            beside = Path(scratch, "folder")
            beside.mkdir()
            write_tensors(beside / WEIGHTS[0], tensors)
            _write_json(beside / CONFIG, config)
            _write_json(beside / PROCESSOR, processor_of(resize, kind))
            beside.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error


def fetch(repo_id: str) -> Path:
    """The folder to which a repository's settings and safetensors are downloaded, or were before.

    Raises:
        DataError: the repository cannot be had, or has no such files.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise DataError(
            f"fetching {repo_id} needs huggingface_hub: pip install huggingface_hub; or give a folder that is there."
        ) from error
    patterns = [CONFIG, PROCESSOR, "model*.safetensors", f"{WEIGHTS[0]}.index.json"]
    try:
        path = Path(snapshot_download(repo_id, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise DataError(f"{repo_id} is gated: accept its terms on the hub, then `hf auth login`.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DataError(
            f"there is no {repo_id} on the Hugging Face hub, or it is private: `hf auth login` first."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise DataError(
            f"{repo_id} cannot be fetched ({type(error).__name__}); where there is no network, give a folder of it."
        ) from error
    if not is_folder(path):
        raise DataError(f"{repo_id} has no {CONFIG} with {WEIGHTS[0]}; download its other weights and give the folder.")
    return path


def _weights(folder: Path) -> Path | None:
    """The file of the weights, or that which lists its parts; None if there is neither."""
    names = (name for weights in WEIGHTS for name in (weights, f"{weights}.index.json"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_weights(folder: Path) -> Arrays:
    """All tensors, in single precision."""
    file = _weights(folder)
    if file is None:
        raise DataError(f"{folder} has none of {' and '.join(WEIGHTS)}.")
    parts = [file]
    if file.suffix == ".json":
        names = sorted(set(_read_json(file).get("weight_map", {}).values()))
        # A list of parts is somebody else's; it must not lead out of the folder.
        if not names or any(Path(name).name != name for name in names):
            raise DataError(f"{file} should have a weight_map to files beside it; it has {names[:3]}.")
        parts = [folder / name for name in names]
    tensors: Arrays = {}
    for part in parts:
        tensors |= read_tensors(part).tensors
    return {name: x if x.dtype.kind in "iub" else x.astype(np.float32) for name, x in tensors.items()}


def _tensors(model: DETR | DeformableDETR, variables: Mapping[str, Any], whose: tables.Backbone) -> Arrays:
    """The tensors under all the names that the library has for them."""
    if isinstance(model, DETR):
        return to_published(variables, table=tables.detr(whose))
    table = tables.deformable_detr(whose, refine=model.refine)
    tensors = to_published(variables, table=table)
    if model.refine:
        return tables.with_copies_in_decoder(tensors, two_stage=model.two_stage)
    return tables.with_heads_of_all_layers(tensors, model.decoder_layers, table)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} should hold settings by name; it holds a {type(content).__name__}.")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
