"""Label maps of padded images against a loop over pixels."""

import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from vitjax.data.source import Classes, Sample
from vitjax.data.transforms import Resize
from vitjax.drawing.boxes import enlarged
from vitjax.drawing.label_maps import draw_label_map
from vitjax.prediction import Answer, labelling
from vitjax.segmentation.label_map import BestLabel
from vitjax.structs import Batch, PixelLogits, Targets
from vitjax.tasks.segmentation import PixelLabeller

CLASSES = Classes(("background", "cat", "dog", "padding"), (0, 1, 2, 3))
TASK = PixelLabeller(nn.Module(), Resize(), BestLabel())
FRAME = 8, 12
# (height, width) as the model saw the image, and as it came.
SIZES = [((5, 9), (10, 18)), ((8, 7), (13, 11)), ((6, 12), (4, 8)), ((8, 12), (8, 12))]


@pytest.fixture(scope="module")
def rows():
    """What comes from the device, image by image, and the logits; on padding the last class is the most probable."""
    seen, original = (np.array(sizes, np.int32) for sizes in zip(*SIZES, strict=True))
    logits = np.random.default_rng(0).normal(size=(len(SIZES), *FRAME, 4)).astype(np.float32)
    logits[..., 3] = -9
    for image, (height, width) in zip(logits, seen, strict=True):
        image[height:, :, 3] = image[:, width:, 3] = 9
    nothing = np.full(len(SIZES), -1, np.int32)
    targets = Targets(np.zeros((len(SIZES), 1, 4), np.float32), np.zeros((len(SIZES), 1), int), nothing[:, None] > 0)
    batch = Batch(np.zeros((len(SIZES), *FRAME, 3), np.uint8), seen, targets, nothing, original, nothing)
    second = jnp.asarray(-logits)  # another output, which only helps to train
    maps = jax.device_get(TASK.finish(PixelLogits(jnp.stack([jnp.asarray(logits), second])), batch))
    return [jax.tree.map(operator.itemgetter(row), maps) for row in range(len(SIZES))], logits


@pytest.mark.parametrize("row", range(len(SIZES)))
def test_every_pixel_of_the_image_has_the_best_class_of_the_nearest_that_the_model_saw(rows, row):
    images, logits = rows
    (height, width), (down, across) = SIZES[row]
    wanted = np.zeros((down, across), int)
    for y in range(down):
        for x in range(across):
            # The pixel that holds the centre of this one.
            wanted[y, x] = logits[row, int((y + 0.5) * height / down), int((x + 0.5) * width / across)].argmax()
    found = TASK.prediction(images[row], CLASSES)
    np.testing.assert_array_equal(found.label_map, wanted)
    assert found.label_map.dtype == np.uint8 and 3 not in found.labels
    assert dict(zip(found.labels, found.shares, strict=True)) == {
        label: pytest.approx(np.mean(wanted == label)) for label in np.unique(wanted)
    }


def test_the_page_shows_the_image_the_truth_and_what_is_found_side_by_side():
    truth, found = np.zeros((2, 200, 300), np.uint8)
    truth[:, :100], found[:, 100:] = 1, 2
    sample = Sample(np.full((200, 300, 3), 90, np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int), truth)
    answer = Answer(0, np.zeros(0, int), labelling(found, CLASSES))
    picture, caption = TASK.page_picture(answer, sample, CLASSES, "a.png")
    assert caption == "a.png: image, truth, found"
    panels = [draw_label_map(sample.image, labels, CLASSES.names) for labels in (truth, found)]
    for place, wanted in enumerate([enlarged(sample.image), *panels]):
        height, width = wanted.shape[:2]
        np.testing.assert_array_equal(picture[:height, place * (width + 8) :][:, :width], wanted)
