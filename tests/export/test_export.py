import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from quick import drawn

from vitjax.classification.classifier import Classifier
from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.export import export, run_exported
from vitjax.export import program as export_program
from vitjax.export.export import _resizing, export_model, frame_of
from vitjax.export.program import Program, differences
from vitjax.families.model_file import ModelFile
from vitjax.structs import ANSWER, Feature, Images, Predictions, PredictionSet
from vitjax.tasks.load import predictor_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"
FRAME = (32, 48)
NAMES = ("cat", "dog", "hat")


class Stem(nn.Module):
    """A backbone of one convolution; `counts` asks for the batch size in a way that no symbol can answer."""

    counts: bool = False

    @nn.compact
    def __call__(self, images, *, padding, train):
        if self.counts:
            len(images.pixels)
        x = nn.Conv(8, (8, 8), strides=8, name="stem")(images.pixels)
        return (Feature(x, images.valid[:, ::8, ::8]),)


def model_file(model, *, resize, postprocess):
    images = Images(jnp.zeros((1, *FRAME, 3)), jnp.ones((1, *FRAME), bool))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    return ModelFile(model, drawn(shapes), Classes(NAMES, (1, 2, 3)), resize, postprocess)


@pytest.fixture(scope="module")
def detector():
    layers = {"encoder_layers": 1, "decoder_layers": 1, "feed_forward": 8, "channels": 8, "heads": 1}
    model = DETR(Stem(), num_classes=3, num_queries=4, **layers)
    return model_file(model, resize=Resize(32, 64), postprocess=BestClass(threshold=0.0))


@pytest.fixture(scope="module")
def classifier():
    model = Classifier(Stem(), num_classes=3, norm=False)
    return model_file(model, resize=CenterCrop(32, 36), postprocess=TopClasses(2))


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "detector"
    return export_model(detector, out, size=FRAME)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def detections(file, pixels, sizes, original_sizes):
    """What the model itself finds."""
    program = Program(file.model, file.variables, *FRAME, preprocess=True, postprocess=file.postprocess)
    return jax.device_get(jax.jit(program.__call__)(pixels, sizes, original_sizes))


def test_a_fresh_process_without_vitjax_finds_the_same(detector, exported, tmp_path):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    images = rng.integers(0, 256, (3, *FRAME, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    loader = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    (tmp_path / "loader.py").write_text(loader.replace('"detector"', repr(str(exported.out))), encoding="utf-8")
    script = (
        "import runpy, sys; sys.modules['vitjax'] = None; import numpy as np;"
        "found = runpy.run_path('loader.py')['found']; np.savez('found.npz', **found); print('---');"
        f"sys.argv = ['run.py', 'image.png']; runpy.run_path({str(exported.out / 'run.py')!r}, run_name='__main__')"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    sizes = np.full((3, 2), FRAME, np.int32)
    wanted = detections(detector, images, sizes, sizes)
    with np.load(tmp_path / "found.npz") as found:
        np.testing.assert_array_equal(found["labels"], wanted["labels"])
        np.testing.assert_allclose(found["scores"], wanted["scores"], atol=1e-5)
        np.testing.assert_allclose(found["boxes"], wanted["boxes"], atol=1e-3)
    predictor = predictor_of(detector)
    alone = predictor(image, threshold=0.0)
    shown = [line.split() for line in ran.stdout.partition("---")[2].splitlines()[2:]]
    assert [line[1] for line in shown] == list(alone.names)
    np.testing.assert_allclose([float(line[0]) for line in shown], alone.scores, atol=1e-4)
    np.testing.assert_allclose([list(map(float, line[2:])) for line in shown], alone.boxes, atol=0.06)


def test_the_description_tells_what_goes_in_and_what_comes_out(exported):
    about = json.loads((exported.out / "model.json").read_text(encoding="utf-8"))
    assert [(each["name"], each["shape"]) for each in about["inputs"]] == [
        ("images", ["b", 32, 48, 3]),
        ("sizes", ["b", 2]),
        ("original_sizes", ["b", 2]),
    ]
    assert [(each["name"], each["shape"]) for each in about["outputs"]] == [
        ("boxes", ["b", 4, 4]),
        ("labels", ["b", 4]),
        ("scores", ["b", 4]),
    ]
    assert about["classes"] == list(NAMES) and about["platforms"] == ["cpu", "cuda", "tpu"]
    assert about["parity"]["differences"].keys() == {"scores", "labels", "boxes"}
    assert exported.batch == "b" and exported.bytes == sum(map(len, content(exported.out).values()))


def test_pixels_and_masks_go_into_a_program_without_processing_and_logits_come_out(classifier, tmp_path):
    done = export_model(classifier, tmp_path / "out", batch_size=2, preprocess=False, postprocess=False)
    about = json.loads((done.out / "model.json").read_text(encoding="utf-8"))
    assert {path.name for path in done.out.iterdir()} == {"model.bin", "model.json"}
    assert [(each["name"], each["shape"]) for each in about["inputs"]] == [
        ("pixels", [2, 32, 32, 3]),
        ("valid", [2, 32, 32]),
    ]
    assert [(each["name"], each["shape"]) for each in about["outputs"]] == [("logits", [2, 3])]
    assert done.differences["logits"] <= 1e-4


def test_run_ranks_the_classes_of_a_classifier_of_one_batch_size(classifier, tmp_path):
    counting = dataclasses.replace(classifier, model=classifier.model.clone(backbone=Stem(counts=True)))
    done = export_model(counting, tmp_path / "out")
    assert done.batch == 1 and "the batch is fixed to 1 image" in done.notes[0]
    function, about = run_exported.load(done.out)
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    program = Program(classifier.model, classifier.variables, 32, 32, True, classifier.postprocess)
    wanted = program(jnp.asarray(CenterCrop(32, 36)(image))[None], jnp.array([[32, 32]]))
    shown = list(run_exported.lines(image, function, about))
    assert shown == [
        f"{score:.4f} {NAMES[label]}" for score, label in zip(wanted["scores"][0], wanted["labels"][0], strict=True)
    ]


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("size", [(50, 73), (41, 40), (36, 55)])
def test_run_crops_as_the_evaluation_does(size, nearest):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    crop = CenterCrop(32, 36, nearest)
    found, _ = run_exported.fit(image, {"height": 32, "width": 32, "resize": _resizing(crop, 32, 32)})
    assert np.array_equal(found, crop(image))


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (427, 640), (480, 1000), (31, 1200), (7, 3)])
def test_run_resizes_as_the_evaluation_does(size):
    wanted = Resize(800, 1333).geometries(np.array([size]))[0].output
    assert run_exported._size(*size, 800, 1333) == wanted


def test_run_shrinks_what_is_too_large_for_the_frame():
    about = {"height": 32, "width": 48, "resize": {"shorter": 32, "longest": None}}
    framed, size = run_exported.fit(np.full((64, 32, 3), 255, np.uint8), about)
    assert size.tolist() == [32, 16] and framed.shape == (32, 48, 3)
    assert framed[:, :16].min() == 255 and framed[:, 16:].max() == 0


def test_run_tells_what_reaches_the_threshold_the_best_first():
    frame = {"height": 4, "width": 4, "resize": {"shorter": 4, "longest": None}, "batch": 1}
    about = frame | {"inputs": ["images", "sizes", "original_sizes"], "threshold": 0.5, "classes": ["cat", ""]}
    found = {"scores": np.array([[0.5, 0.25, 0.75]]), "labels": np.array([[1, 0, 0]]), "boxes": np.arange(12.0)}
    answer = found | {"boxes": found["boxes"].reshape(1, 3, 4)}
    told = list(run_exported.lines(np.zeros((4, 4, 3), np.uint8), lambda *_: answer, about))
    assert told == ["0.7500 cat 8.0 9.0 10.0 11.0", "0.5000 1 0.0 1.0 2.0 3.0"]


def test_a_damaged_program_is_not_run(exported, tmp_path):
    for name, whole in content(exported.out).items():
        (tmp_path / name).write_bytes(whole[:-1] if name == "model.bin" else whole)
    with pytest.raises(ValueError, match="damaged"):
        run_exported.load(tmp_path)


def test_a_program_that_says_something_else_is_refused_and_the_old_one_kept(
    classifier, exported, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    out.mkdir()
    for name, whole in content(exported.out).items():
        (out / name).write_bytes(whole)
    monkeypatch.setattr(export, "differences", lambda *_: {"scores": 2e-3, "labels": 0.0})
    with pytest.raises(DataError, match=r"scores by 2\.0e-03"):
        export_model(classifier, out, batch_size=1)
    monkeypatch.setattr(export, "differences", lambda *_: {"scores": float("nan"), "labels": 1.0})
    with pytest.raises(DataError, match="scores by nan"):
        export_model(classifier, out, batch_size=1)
    assert content(out) == content(exported.out) and os.listdir(tmp_path) == ["out"]


def test_a_full_disk_leaves_the_old_export(classifier, exported, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.json").write_text("{}", encoding="utf-8")
    real = export._write_through

    def full(path, content):
        if path.name == "model.json":
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(export, "differences", lambda *_: {"scores": 0.0})
    monkeypatch.setattr(export, "_write_through", full)
    with pytest.raises(DataError, match="No space left"):
        export_model(classifier, out, batch_size=1)
    assert content(out) == {"model.json": b"{}"} and os.listdir(tmp_path) == ["out"]
    monkeypatch.setattr(export, "_write_through", real)
    export_model(classifier, out, batch_size=1)
    assert content(out).keys() == {"model.bin", "model.json", "run.py"} and os.listdir(tmp_path) == ["out"]


def test_a_folder_of_something_else_and_odd_sizes_are_refused(classifier, tmp_path):
    (tmp_path / "photo.png").write_text("mine")
    with pytest.raises(DataError, match="no exported model"):
        export_model(classifier, tmp_path)
    with pytest.raises(DataError, match="at least 1; got 0 32"):
        export_model(classifier, tmp_path / "out", size=(0, 32))
    with pytest.raises(DataError, match="batch_size"):
        export_model(classifier, tmp_path / "out", batch_size=0)


def test_frames_hold_what_the_evaluation_shows():
    assert frame_of(CenterCrop(224, 256)) == (224, 224)
    assert frame_of(Resize(800, 1333)) == (800, 1088)
    with pytest.raises(DataError, match="--size"):
        frame_of(Resize(None, None))


class Untold(nn.Module):
    """A detector of a user's own, which does not say that it is one."""

    @nn.compact
    def __call__(self, images, *, train):
        found = nn.Dense(4)(images.pixels.mean((1, 2)))[None, :, None]
        return Predictions({ANSWER: PredictionSet(found, nn.sigmoid(found))})


def test_a_model_of_ones_own_that_does_not_say_what_it_is_is_written_as_a_detector(tmp_path):
    file = model_file(Untold(), resize=Resize(32, 64), postprocess=BestClass())
    export_model(file, tmp_path / "out", size=FRAME, batch_size=1)
    about = json.loads((tmp_path / "out" / "model.json").read_text(encoding="utf-8"))
    assert (about["task"], about["model"]) == ("detection", "Untold")


class Asked(nn.Module):
    """A detector whose queries are told by its only parameter."""

    @nn.compact
    def __call__(self, images, *, train):
        raise RuntimeError("not asked in these tests")


@pytest.mark.parametrize("postprocess", [BestClass(), TopDetections(3), TopClasses(2)], ids=lambda one: one.scores)
def test_every_output_that_is_off_is_told(postprocess, monkeypatch):
    rng = np.random.default_rng(0)
    ranking = isinstance(postprocess, TopClasses)
    raw = {"logits": rng.normal(size=(2, 5) if ranking else (2, 6, 5)).astype(np.float32)}
    if not ranking:
        raw["boxes"] = rng.uniform(size=(2, 6, 4)).astype(np.float32)
    monkeypatch.setattr(Program, "raw", lambda *_: jax.tree.map(jnp.asarray, raw))
    program = Program(Asked(), {}, 4, 4, True, postprocess)
    honest = differences(program, jax.jit(program.__call__), 2)
    assert max(honest.values()) < 1e-6
    for name in honest:

        def off(*inputs, name=name):
            found = {key: np.array(value) for key, value in jax.jit(program.__call__)(*inputs).items()}
            found[name][1, 0] = (found[name][1, 0] + 1) % 4 if name == "labels" else 1.01 * found[name][1, 0]
            return found

        told = differences(program, off, 2)
        assert told[name] > 1e-3, told


def test_an_output_that_is_no_number_on_one_image_is_told(monkeypatch):
    raw = {"logits": jnp.arange(10.0).reshape(2, 5)}
    monkeypatch.setattr(Program, "raw", lambda *_: raw)
    program, calls = Program(Asked(), {}, 4, 4, True, None), []

    def broken_once(*inputs):
        calls.append(inputs)
        return {"logits": np.full((2, 5), np.nan) if len(calls) == 1 else np.asarray(raw["logits"])}

    assert np.isnan(differences(program, broken_once, 2)["logits"]) and len(calls) == 2


def test_detections_that_change_places_are_no_difference(monkeypatch):
    raw = {"logits": jnp.zeros((2, 6, 5)), "boxes": jnp.arange(48.0).reshape(2, 6, 4) / 48}
    monkeypatch.setattr(Program, "raw", lambda *_: raw)
    program = Program(Asked(), {}, 4, 4, True, TopDetections(3))
    swapped = {key: value[:, ::-1] for key, value in jax.jit(program.__call__)(*program.arguments(_example())).items()}
    assert max(export_program._compared(program, swapped, _numpy(raw), _example()).values()) < 1e-6


def _numpy(raw):
    return {key: np.asarray(value, np.float64) for key, value in raw.items()}


def _example():
    return next(export_program._examples(Program(Asked(), {}, 4, 4, True, TopDetections(3)), 2))


def test_a_picture_of_sixteen_bits_is_read_as_it_is_for_training(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 4), np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    assert np.array_equal(run_exported.read(tmp_path / "deep.png"), np.stack([pixels >> 8] * 3, -1))


def test_the_program_computes_at_the_precision_of_the_run(detector, tmp_path):
    for precision in ("default", "highest"):
        out = tmp_path / precision
        export_model(dataclasses.replace(detector, matmul_precision=precision), out, size=FRAME)
        program = jax.export.deserialize(bytearray((out / "model.bin").read_bytes())).mlir_module()
        products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
        assert all("HIGHEST, HIGHEST" in line for line in products) == (precision == "highest")
