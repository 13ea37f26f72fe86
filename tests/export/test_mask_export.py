"""A model with masks leaves with them: each detection has the mask of its query, and run.py brings it to its image."""

import json

import jax
import numpy as np
import published
import pytest
from export.test_export import FRAME, Stem, model_file
from flax import linen as nn
from jax import numpy as jnp
from PIL import Image

from vitjax.data.transforms import Resize
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.export import run_exported
from vitjax.export.export import export_model
from vitjax.export.program import Program, differences
from vitjax.segmentation.masks import Masks
from vitjax.structs import ANSWER, Images, MaskPredictions, Predictions, PredictionSet

QUERIES = 5
MODEL = published.MODELS["detr with masks"]


class Masking(nn.Module):
    """As many queries as it has to have, with a mask each at a quarter of the sides."""

    scores: str = "softmax"
    padding: str = "exact"
    makes_masks = True

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> MaskPredictions:
        seen = Stem(name="stem")(images, padding="exact", train=train)[0].values.mean((1, 2))
        classes = 3 + (self.scores == "softmax")
        logits = 4 * nn.Dense(QUERIES * classes, name="logits")(seen).reshape(1, -1, QUERIES, classes)
        boxes = nn.sigmoid(nn.Dense(QUERIES * 4, name="boxes")(seen)).reshape(1, -1, QUERIES, 4)
        masks = nn.Conv(QUERIES, (4, 4), strides=4, name="masks")(images.pixels).transpose(0, 3, 1, 2)
        return MaskPredictions(Predictions({ANSWER: PredictionSet(logits, boxes)}), masks, images.valid[:, ::4, ::4])


def file_of(postprocess):
    return model_file(Masking(postprocess.scores), resize=Resize(32, 64), postprocess=postprocess)


@pytest.fixture(scope="module", params=["best", "top"])
def exported(request, tmp_path_factory):
    file = file_of({"best": BestClass(threshold=0.0), "top": TopDetections(k=7, threshold=0.0)}[request.param])
    return file, export_model(file, tmp_path_factory.mktemp("export") / "masks", size=FRAME)


def test_every_detection_has_the_mask_of_the_query_whose_box_it_has(exported):
    file, done = exported
    assert done.differences.keys() == {"scores", "labels", "boxes", "masks"} and done.batch == "b"
    function, about = run_exported.load(done.out)
    pixels = np.random.default_rng(1).integers(0, 256, (2, *FRAME, 3), dtype=np.uint8)
    sizes = np.full((2, 2), FRAME, np.int32)
    found = jax.device_get(function(pixels, sizes, sizes))
    count = QUERIES if file.postprocess.scores == "softmax" else 7
    assert found["masks"].shape == (2, count, 8, 12)
    assert [one["shape"] for one in about["outputs"] if one["name"] == "masks"] == [["b", count, 8, 12]]
    raw = jax.device_get(jax.jit(Program(file.model, file.variables, *FRAME, True, None).__call__)(pixels, sizes))
    middles = found["boxes"].reshape(2, count, 2, 2).mean(2) / FRAME[::-1]
    for image, detection in np.ndindex(2, count):
        query = np.abs(raw["boxes"][image, :, :2] - middles[image, detection]).sum(-1).argmin()
        np.testing.assert_allclose(found["masks"][image, detection], raw["masks"][image, query], atol=1e-5)


def test_masks_of_other_queries_are_a_difference(exported):
    file, done = exported
    function, _ = run_exported.load(done.out)
    program = Program(file.model, file.variables, *FRAME, True, file.postprocess)

    def wrong(*inputs):
        found = function(*inputs)
        return found | {"masks": jnp.roll(found["masks"], 1, axis=1)}

    assert differences(program, function, 2)["masks"] < 1e-5 < 0.1 < differences(program, wrong, 2)["masks"]


def test_run_writes_the_masks_that_the_model_has_here(exported, tmp_path, capsys, monkeypatch):
    _, done = exported
    pixels = np.random.default_rng(2).integers(0, 256, (41, 47, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(run_exported, "__file__", str(done.out / "run.py"))
    monkeypatch.setattr("sys.argv", ["run.py", "--masks", str(tmp_path / "out"), str(tmp_path / "a.png")])
    run_exported.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    about = json.loads((done.out / "model.json").read_text())
    frame, size = run_exported.fit(pixels, about)
    given = frame[None], size[None]
    function, _ = run_exported.load(done.out)
    found = jax.device_get(function(*given, np.array([[41, 47]], np.int32)))
    valid = [-(-int(side) // 4) for side in size]
    masks = Masks(found["masks"][0][:, : valid[0], : valid[1]], tuple(size.tolist()), (41, 47))
    assert len(lines) == len(list((tmp_path / "out").iterdir())) == len(masks) >= QUERIES
    for number, detection in enumerate(np.argsort(-found["scores"][0], kind="stable").tolist()):
        written = np.asarray(Image.open(tmp_path / "out" / f"a_{number}.png"))
        np.testing.assert_array_equal(written, masks[detection])


def test_without_masks_the_detector_is_exported_and_it_is_said(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr("vitjax.export.export._traced", lambda program, batch: seen.append(program.model) or 1 / 0)
        for masks in (True, False):
            with pytest.raises(ZeroDivisionError):
                export_model(published.file_of(MODEL), tmp_path / "out", size=FRAME, masks=masks)
    assert seen == [MODEL, MODEL.detr]
