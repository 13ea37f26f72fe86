"""What is timed beside what: the rows of the table. Neither JAX nor PyTorch is imported here."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

TORCH = ("eager", "channels_last", "compile")
"""The ways of PyTorch's models: as they come, with images and kernels in memory channels last, and compiled."""
PROCESSORS = ("torchvision, files", "torchvision, Pillow images", "Pillow")
"""The ways of transformers' image processors: two backends, the first of them given names of files or images."""
CONFIGS = {
    "detr": "detr_resnet50_coco",
    "deformable": "deformable_detr_resnet50_coco",
    "dino": "dino_resnet50_4scale_coco",
    "classifier": "crossformer_small_imagenet",
}
"""vitjax's models by the names that rows have for them."""
CLASSES = 91
"""Of every detector."""
OBJECTS, PLACES = 10, 64
"""Of an image that a detector is trained on; PyTorch's side has no empty places."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Work that can be repeated, and what is known of it beside its time.

    `facts` may have floating point operations of products and convolutions, those of a call (`flops`) and those of the
    forward pass as published (`products`), and the bytes that the compiler plans besides the arguments (`plan`).
    """

    call: Callable[[], Any]
    facts: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """One piece of work: a function of `benchmarks.ours`, the one of that name of another module, and arguments."""

    name: str
    title: str
    job: str
    given: dict[str, Any]
    small: dict[str, Any]
    """What is given in place of it for a run of seconds."""
    ways: tuple[str, ...] = TORCH
    """How the other side does it, its argument `way`; the fastest counts."""
    per_flop: bool = False
    """Whether the models of the sides differ in size, so that there is a ratio per floating point operation, too."""
    beside: str = "rivals"
    """The module of the other side."""

    def smaller(self) -> "Row":
        """The row for a run of seconds."""
        return dataclasses.replace(self, title=f"{self.name}, small", given=self.given | self.small)


_SMALL = {"shape": (1, 128, 128), "small": True}


def _model(name: str, title: str, model: str, shape: tuple[int, int, int], **fields: Any) -> tuple[Row, Row]:
    size = " x ".join(map(str, shape))
    given: dict[str, Any] = {"model": model, "shape": shape, "small": False}
    forward = Row(f"{name}_forward", f"{title}, forward, {size}", "forward", given, _SMALL, **fields)
    return forward, Row(f"{name}_training", f"{title}, training step, {size}", "training", given, _SMALL, **fields)


def _matching(name: str, queries: int, objects: int, places: int) -> Row:
    given = {"queries": queries, "objects": objects, "places": places}
    title = f"matching, 6 layers of 4 images, {queries} queries to {objects} objects in {places} places"
    return Row(name, title, "matching", given, {"queries": 10, "objects": 3, "places": 5}, ("transformers",))


ROWS = (
    *_model("detr", "DETR R50", "detr", (2, 608, 760)),
    *_model("deformable", "Deformable DETR R50", "deformable", (1, 480, 640)),
    *_model("crossformer", "CrossFormer-S beside Swin-T", "classifier", (8, 224, 224), per_flop=True),
    Row(
        "data",
        "16 JPEGs of 480 x 640 decoded, resized to 800, padded and normalised",
        "data",
        {"images": 16, "batch": 8},
        {"images": 2, "batch": 2},
        PROCESSORS,
    ),
    _matching("matching", 100, 20, 64),
    _matching("matching_crowd", 300, 50, 100),
)
CEILING = tuple(
    Row(f"square_{side}", f"product of {side} x {side}", "square", {"side": side}, {"side": 256}, ("eager",))
    for side in (1024, 2048, 3072)
)
"""Square float32 products; the fastest is what the machine can do."""


def beside_first(configs: Sequence[str], shape: tuple[int, int, int]) -> tuple[Row, ...]:
    """Rows of the training steps of configs, each beside that of the first."""
    base, *others = configs
    size = " x ".join(map(str, shape))
    given: dict[str, Any] = {"shape": shape, "small": False}
    return tuple(
        Row(name, f"`{name}`, {size}", "config", given | {"name": name}, _SMALL, (base,), beside="ours")
        for name in others
    )
