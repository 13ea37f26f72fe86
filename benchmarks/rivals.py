"""PyTorch's side: functions of the names and arguments of `ours`, and the way in which PyTorch does it.

Models are those of transformers and timm from their configs, with random weights; nothing is fetched.
"""

import dataclasses
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.pictures import write_pictures
from benchmarks.rows import CLASSES, OBJECTS, Work

Shape = tuple[int, int, int]
_THREADS = int(os.environ.get("OMP_NUM_THREADS", "0"))
if _THREADS:
    torch.set_num_threads(_THREADS)


@dataclasses.dataclass(frozen=True)
class Way:
    """How PyTorch does it: one of `rows.TORCH`, the device, and whether in bfloat16 where autocast does that."""

    name: str
    device: str = "cpu"
    bfloat16: bool = False

    def network(self, model: str, shape: Shape, small: bool) -> torch.nn.Module:
        """The model of a name, where and as it is to be in memory."""
        network = swin(shape, small) if model == "classifier" else detector(model, small)
        return self._laid_out(network.to(self.device))

    def pixels(self, shape: Shape) -> torch.Tensor:
        """Normalised images."""
        images, height, width = shape
        return self._laid_out(torch.randn(images, 3, height, width, device=self.device))

    def _laid_out(self, it: Any) -> Any:
        return it.to(memory_format=torch.channels_last) if self.name == "channels_last" else it

    def made(self, network: Any) -> Any:
        """The network, compiled if that is the way."""
        return torch.compile(network) if self.name == "compile" else network

    def computing(self) -> torch.autocast:
        """Within it, autocast is on or not."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    def wait(self) -> None:
        """Returns once the device has done all."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def forward(model: str, shape: Shape, small: bool, way: str | Way) -> Work:
    """The forward pass of a model in evaluation."""
    way = Way(way) if isinstance(way, str) else way
    network, pixels = way.network(model, shape, small).eval(), way.pixels(shape)
    run = way.made(network)

    def call() -> None:
        with torch.no_grad(), way.computing():
            run(pixels)
        way.wait()

    return Work(call)


def training(model: str, shape: Shape, small: bool, way: str | Way) -> Work:
    """A training step: loss with matching, gradients, clipping, AdamW; a detector's backbone learns at a tenth."""
    way = Way(way) if isinstance(way, str) else way
    network, pixels = way.network(model, shape, small).train(), way.pixels(shape)
    loss = (_classifier_loss if model == "classifier" else _detector_loss)(network, pixels, way)
    trained = {name: one for name, one in network.named_parameters() if one.requires_grad}
    parts = [[one for name, one in trained.items() if ("backbone" in name) == slow] for slow in (False, True)]
    groups = [{"params": part, "lr": rate} for part, rate in zip(parts, (1e-4, 1e-5), strict=True) if part]
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=True)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 0.1)
        optimizer.step()
        way.wait()

    return Work(call)


def counted(model: str, shape: Shape, small: bool, way: str) -> Work:
    """No work; what is known is the `products` of a model's forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    network = Way(way).network(model, shape, small).requires_grad_(False)  # the counter has no views of parameters
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(Way(way).pixels(shape))
    return Work(lambda: None, {"products": float(counter.get_total_flops())})


def data(images: int, batch: int, way: str) -> Work:
    """JPEGs through transformers' image processor, a batch at a time."""
    from PIL import Image
    from transformers.models.detr.image_processing_detr import DetrImageProcessor
    from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

    folder = tempfile.TemporaryDirectory()
    names = write_pictures(folder.name, images)
    processor = DetrImageProcessorPil() if way == "Pillow" else DetrImageProcessor()
    opened: Callable[[str], Any] = str if way.endswith("files") else Image.open

    def call(_: Any = folder) -> None:  # which is there as long as the work is
        for first in range(0, images, batch):
            processor([opened(name) for name in names[first : first + batch]], return_tensors="pt")

    return Work(call)


def matching(queries: int, objects: int, places: int, way: str) -> Work:
    """transformers' matching, layer by layer as its loss does it; there are no empty places."""
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    logits, boxes = torch.randn(6, 4, queries, CLASSES + 1), 0.2 + 0.6 * torch.rand(6, 4, queries, 4)
    targets = _targets(4, objects)

    def call() -> None:
        for one, other in zip(logits, boxes, strict=True):
            matcher({"logits": one, "pred_boxes": other}, targets)

    return Work(call)


def square(side: int, way: str) -> Work:
    """A float32 product of two squares."""
    one, other = torch.randn(2, side, side)
    return Work(lambda: one @ other, {"flops": 2.0 * side**3})


def detector(model: str, small: bool = False) -> torch.nn.Module:
    """transformers' DETR or Deformable DETR with 91 classes, and frozen what the published recipes freeze."""
    import transformers

    stages: dict[str, Any] = {"out_features": ["stage4"] if model == "detr" else ["stage2", "stage3", "stage4"]}
    sizes: dict[str, Any] = {}
    if small:
        stages |= {"embedding_size": 8, "hidden_sizes": [32, 64, 128, 256], "depths": [1] * 4}
        sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 10}
        for side in ("encoder", "decoder"):
            sizes |= {f"{side}_attention_heads": 2, f"{side}_ffn_dim": 32}
    name = {"detr": "Detr", "deformable": "DeformableDetr"}[model]
    config = getattr(transformers, f"{name}Config")(
        backbone_config=transformers.ResNetConfig(**stages), num_labels=CLASSES, auxiliary_loss=True, **sizes
    )
    network = getattr(transformers, f"{name}ForObjectDetection")(config)
    for path, parameter in network.model.backbone.named_parameters():
        parameter.requires_grad_("embedder" not in path and "stages.0." not in path)
    return network


def swin(shape: Shape, small: bool) -> torch.nn.Module:
    """timm's Swin-T for images of a size."""
    import timm

    sizes = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)} if small else {}
    given = {"num_classes": 1000, "drop_path_rate": 0.2, "img_size": tuple(shape[1:]), **sizes}
    return timm.create_model("swin_tiny_patch4_window7_224", **given)


def _targets(images: int, objects: int) -> list[dict[str, torch.Tensor]]:
    def one() -> dict[str, torch.Tensor]:
        boxes = torch.cat([0.3 + 0.4 * torch.rand(objects, 2), 0.1 + 0.2 * torch.rand(objects, 2)], -1)
        return {"class_labels": torch.randint(CLASSES, (objects,)), "boxes": boxes}

    return [one() for _ in range(images)]


def _detector_loss(network: Any, pixels: torch.Tensor, way: Way) -> Callable[[], torch.Tensor]:
    targets = [{name: value.to(way.device) for name, value in one.items()} for one in _targets(len(pixels), OBJECTS)]
    network.model = way.made(network.model)  # heads, matching and loss are beside it, since matching leaves the graph

    def loss() -> torch.Tensor:
        with way.computing():
            return network(pixel_values=pixels, labels=targets).loss

    return loss


def _classifier_loss(network: Any, pixels: torch.Tensor, way: Way) -> Callable[[], torch.Tensor]:
    labels = torch.randint(1000, (len(pixels),), device=way.device)
    run, criterion = way.made(network), torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def loss() -> torch.Tensor:
        with way.computing():
            return criterion(run(pixels), labels)

    return loss
