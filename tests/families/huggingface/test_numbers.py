"""Conditional DETR and DAB-DETR compute what the transformers library does: stored, and live where it is installed."""

import dataclasses
import json
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.matcher import match
from vitjax.families.huggingface.folder import read_folder, write_folder
from vitjax.families.huggingface.form import form_of
from vitjax.families.huggingface.names import backbone_of
from vitjax.families.known import family_of
from vitjax.formats.tables import to_published
from vitjax.runs.optimizer import AdamW
from vitjax.structs import Images, Targets

from .rule import CASES, images, objects, summary, weight

FOLDER = Path(__file__).parent / "numbers"
LOSS = FocalSetLoss(classification=1.0)  # as the library weights them, for both models
WITH_GRADIENTS = [case for case in CASES if "gradients" in np.load(FOLDER / f"{case}.npz").files]


@cache
def stored(case):
    """The library's numbers, and what they are of."""
    arrays = dict(np.load(FOLDER / f"{case}.npz"))
    return json.loads(arrays.pop("about").tobytes()), arrays


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """The model of a case, from a folder as the library writes it."""

    @cache
    def read(case):
        folder, (about, _) = tmp_path_factory.mktemp(case), stored(case)
        (folder / "config.json").write_text(json.dumps(about["config"]))
        save_file({name: weight(name, tuple(shape)) for name, shape in about["shapes"].items()},
                  folder / "model.safetensors")  # fmt: skip
        return read_folder(folder)

    return read


def targets():
    """The objects, padded to as many as the image of most has."""
    labels, boxes, valid = np.zeros((2, 3), np.int32), np.zeros((2, 3, 4), np.float32), np.zeros((2, 3), bool)
    for image, (given, places) in enumerate(objects()):
        labels[image, : len(given)], boxes[image, : len(given)], valid[image, : len(given)] = given, places, True
    return Targets(labels=jnp.asarray(labels), boxes=jnp.asarray(boxes), valid=jnp.asarray(valid))


@dataclasses.dataclass(frozen=True, eq=False)
class Variables:
    """Variables that can be told apart by what they are, so that nothing is computed twice."""

    tree: dict


def predictions_of(model, variables):
    """The predictions on the two images."""
    pixels, valid = (jnp.asarray(x) for x in images())
    return model.apply(variables, Images(pixels, valid), train=False)


def loss_of(model, trainable, frozen, constants):
    """The loss, and the terms and predictions on the way."""
    predictions = predictions_of(model, {"params": AdamW.merge(trainable, frozen), **constants})
    terms = LOSS(predictions, targets(), match(LOSS.cost, predictions, targets()))
    return LOSS.total(terms), (terms, predictions)


@cache
def predicted(model, variables):
    """Logits and boxes."""
    predictions = jax.jit(partial(predictions_of, model))(variables.tree)
    return {"logits": predictions.logits, "boxes": predictions.boxes}


@cache
def stepped(model, variables):
    """Logits, boxes, losses and gradients, named as the library's."""
    constants = dict(variables.tree)
    given = (*AdamW(frozen=("^backbone/",)).partition(constants.pop("params")), constants)
    step = jax.jit(jax.value_and_grad(partial(loss_of, model), has_aux=True))
    (loss, (terms, predictions)), gradients = step(*given)
    found = {"logits": predictions.logits, "boxes": predictions.boxes, "loss": loss}
    for name, theirs in {"class": "ce", "box": "bbox", "giou": "giou"}.items():
        found |= {f"loss/loss_{theirs}": terms[name].value[-1], f"loss/loss_{theirs}_0": terms[name].value[0]}
    tensors = to_published({"params": gradients}, table=form_of(family_of(model)).table_for(model, "transformers"))
    return found | {"gradients": np.concatenate([summary(name, x) for name, x in sorted(tensors.items())])}


@pytest.fixture(scope="module")
def numbers_of(file_of):
    """What a case gives here, padding leaking as in the library."""
    kept = cache(lambda case: Variables(file_of(case).variables))
    models = cache(lambda case: file_of(case).model.clone(padding="reference"))
    return lambda case: (stepped if case in WITH_GRADIENTS else predicted)(models(case), kept(case))


def assert_same(found, wanted, names, atol=1e-5):
    for name in names:
        scale = max(1, np.abs(wanted[name]).max())
        assert wanted[name].size == 1 or wanted[name].std() > 1e-3
        np.testing.assert_allclose(found[name], wanted[name], atol=atol * scale, rtol=0, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_every_layer_predicts_what_the_library_does(case, numbers_of):
    assert stored(case)[1]["logits"].shape == (2, 2, 14 if case == "dab_detr_otherwise" else 7, 3)
    assert_same(numbers_of(case), stored(case)[1], ("logits", "boxes"))


@pytest.mark.parametrize("case", WITH_GRADIENTS)
def test_a_step_has_the_librarys_losses_in_every_layer_and_its_gradients(case, numbers_of):
    wanted = stored(case)[1]
    names = [name for name in wanted if name.startswith(("loss", "gradients")) and "cardinality" not in name]
    assert len(names) == 8
    assert_same(numbers_of(case), wanted, names)


@pytest.mark.parametrize("case", CASES)
def test_what_the_library_writes_goes_back_to_the_bit(case, file_of):
    file, (about, _) = file_of(case), stored(case)
    names = about["shapes"]
    tensors = to_published(
        file.variables, table=form_of(family_of(file.model)).table_for(file.model, backbone_of(names))
    )
    assert tensors.keys() == names.keys()
    assert all(tensors[name].tobytes() == weight(name, tuple(shape)).tobytes() for name, shape in names.items())


@pytest.mark.parametrize("case", CASES)
def test_the_library_as_installed_gives_these_numbers_too(case, numbers_of, tmp_path):
    pytest.importorskip("transformers")
    make = pytest.importorskip("families.huggingface.make_numbers")
    model, _ = make.drawn(*CASES[case], tmp_path)
    wanted = make.numbers_of(model)
    assert_same(numbers_of(case), wanted, [name for name in wanted if name in numbers_of(case)])


@pytest.mark.parametrize("case", CASES)
def test_the_library_as_installed_reads_what_is_written_here(case, file_of, tmp_path):
    transformers = pytest.importorskip("transformers")
    make = pytest.importorskip("families.huggingface.make_numbers")
    file = dataclasses.replace(file_of(case), classes=Classes(("", "cat", "dog"), (0, 1, 2)), resize=Resize(480, 640))
    write_folder(tmp_path / "folder", file)
    assert read_folder(tmp_path / "folder").model == file.model
    model, notes = transformers.AutoModelForObjectDetection.from_pretrained(
        tmp_path / "folder", output_loading_info=True, attn_implementation="eager"
    )
    assert not any(notes.values()), notes
    assert model.config.id2label == {0: "N/A", 1: "cat", 2: "dog"}
    assert_same(stored(case)[1], make.numbers_of(model.eval()), ("logits", "boxes"))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder")
    pixels = processor(np.zeros((100, 150, 3), np.uint8), return_tensors="np")["pixel_values"]
    assert pixels.shape[2:] == tuple(Resize(480, 640).geometries(np.array([[100, 150]])).output[0])
