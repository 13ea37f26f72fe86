"""Writes numbers/*.npz: what the transformers library computes of the weights, images and objects of rule.py.

    pip install torch transformers scipy && PYTHONPATH=tests python -m families.huggingface.make_numbers

Of every case they hold config.json, the names and shapes of the tensors in the file, logits and boxes of every decoder
layer, and for the cases in `WITH_GRADIENTS` losses and gradients; detr_masks.npz is of a DETR with masks, and has the
logits, boxes and mask logits of its last layer.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from .rule import CASES, MASKS, images, objects, summary, weight

FOLDER = Path(__file__).parent / "numbers"
WITH_GRADIENTS = ("dab_detr",)  # the one of them that stops gradients; they take long to compile


def drawn(kind: str, settings: dict, folder: Path, purpose: str = "ForObjectDetection"):
    """The library's model with weights that are drawn by their names in the file; the folder then holds it."""
    config = getattr(transformers, f"{kind}Config")(**settings)
    model_class = getattr(transformers, f"{kind}{purpose}")
    model_class(config).save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {name: torch.from_numpy(weight(name, tuple(x.shape))) for name, x in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    # The loading of weights is left to the library, which has other names in memory.
    model, notes = model_class.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    assert not any(notes.values()), notes
    return model.eval(), {name: list(x.shape) for name, x in tensors.items()}


def predicted(model, pixels: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and boxes of every decoder layer."""
    after = []
    for layer in model.model.decoder.layers:
        layer.register_forward_hook(
            lambda *given: after.append(given[2][0] if isinstance(given[2], tuple) else given[2])
        )
    inner = model.model(pixels, valid)
    queries = model.model.decoder.layernorm(torch.stack(after))
    reference = inner.reference_points
    if model.config.model_type == "conditional_detr":  # (queries, batch, 2), the same for all layers
        reference = reference.transpose(0, 1)
    boxes = model.bbox_predictor(queries)
    moved = boxes[..., : reference.shape[-1]] + torch.logit(reference.clamp(1e-5, 1 - 1e-5))
    boxes = torch.cat([moved, boxes[..., reference.shape[-1] :]], -1).sigmoid()
    classify = getattr(model, "class_embed", None) or model.class_labels_classifier
    return classify(queries), boxes


def numbers_of(model) -> dict[str, np.ndarray]:
    """Predictions, losses, and gradients of all but the backbone in the order of their names, each as its summary."""
    pixels, valid = images()
    given = torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(valid).long()
    logits, boxes = predicted(model, *given)
    found = model(*given)
    torch.testing.assert_close(found.logits, logits[-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pred_boxes, boxes[-1], atol=1e-5, rtol=0)
    labels = [{"class_labels": torch.from_numpy(x.labels), "boxes": torch.from_numpy(x.boxes)} for x in objects()]
    model.config.auxiliary_loss = True  # for the loss alone: in evaluation one of the models would be another with it
    loss, terms, _ = model.loss_function(logits[-1], labels, "cpu", boxes[-1], model.config, logits, boxes)
    loss.backward()
    out = {"logits": logits, "boxes": boxes, "loss": loss, **{f"loss/{name}": x for name, x in terms.items()}}
    out = {name: np.float32(x.detach()) for name, x in out.items()}
    with tempfile.TemporaryDirectory() as folder:  # gradients under the names of the file
        for parameter in model.parameters():
            parameter.data = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        model.save_pretrained(folder)
        gradients = load_file(Path(folder, "model.safetensors"))
    shown = (summary(name, x.numpy()) for name, x in sorted(gradients.items()) if "backbone" not in name)
    return out | {"gradients": np.concatenate([*shown])}


def masks_of(model) -> dict[str, np.ndarray]:
    """Logits, boxes and mask logits of two images."""
    pixels, valid = images()
    with torch.no_grad():
        found = model(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(valid).long())
    return {"logits": found.logits.numpy(), "boxes": found.pred_boxes.numpy(), "masks": found.pred_masks.numpy()}


def write(name: str, shapes: dict, folder: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes the file of a case."""
    config = json.loads(Path(folder, "config.json").read_text())
    text = json.dumps({"config": config, "shapes": shapes, "version": transformers.__version__})
    np.savez_compressed(FOLDER / f"{name}.npz", about=np.frombuffer(text.encode(), np.uint8), **arrays)
    print(name, (FOLDER / f"{name}.npz").stat().st_size, "bytes")


def main() -> None:
    """Writes a file for each case."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model, shapes = drawn("Detr", MASKS, Path(folder), "ForSegmentation")
        write("detr_masks", shapes, folder, masks_of(model))
    for name, (kind, settings) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            model, shapes = drawn(kind, settings, Path(folder))
            found = numbers_of(model)
            kept = {key: x for key, x in found.items() if key in ("logits", "boxes") or name in WITH_GRADIENTS}
            write(name, shapes, folder, kept)


if __name__ == "__main__":
    main()
