import json

import cv2
import pytest

from vitjax.commands.main import train
from vitjax.data.digits import Digits

CONFIG = '''"""A detector so small that it trains in seconds."""

from vitjax.backbones.resnet import ResNet
from vitjax.data.coco import CocoFolder
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.detr import DETR
from vitjax.tasks.detection import Detection
from vitjax.runs.optimizer import AdamW


def experiment():
    return Detection(
        model=DETR(
            backbone=ResNet(depth=18, width=8, stage_blocks=(1,), norm="group"),
            num_queries=5, channels=16, heads=2, encoder_layers=1, decoder_layers=2, feed_forward=16,
        ),
        data=CocoFolder(),
        augmentation=Augmentation(sizes=(32,), max_side=64, crop=0.0),
        resize=Resize(size=32, max_side=64),
        optimizer=AdamW(learning_rate=1e-3),
        epochs=2, batch_size=4, log_every=2,
    )
'''


def write_coco(root, *, train_images=8, val_images=3):
    """Digit scenes as a COCO folder, with gaps in the category ids; images of one shape, so that little is compiled."""
    height, width = 48, 64
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train", train_images), ("val", val_images)):
        (root / split).mkdir()
        images, annotations = [], []
        for i in range(count):
            scene = Digits(height=height, width=width).open(split)[i]
            cv2.imwrite(str(root / split / f"{i}.png"), scene.image[..., ::-1])
            images.append({"id": 10 + i, "file_name": f"{i}.png", "height": height, "width": width})
            for (x1, y1, x2, y2), label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
                w, h = x2 - x1, y2 - y1
                box = {"bbox": [x1, y1, w, h], "area": w * h, "category_id": 2 * label + 1, "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": 10 + i, **box})
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 2 * i + 1, "name": f"digit {i}"} for i in range(10)],
        }
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def folder(tmp_path):
    """A fresh COCO folder that a test may spoil."""
    return write_coco(tmp_path / "data")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A COCO folder that tests only read."""
    return write_coco(tmp_path_factory.mktemp("coco") / "data")


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """A user's own config file."""
    file = tmp_path_factory.mktemp("config") / "tiny.py"
    file.write_text(CONFIG)
    return str(file)


@pytest.fixture(scope="session")
def run(tmp_path_factory, config, data):
    """A run of two epochs, trained once."""
    workdir = tmp_path_factory.mktemp("runs") / "tiny"
    assert train([config, "--data.root", str(data), "--workdir", str(workdir)]) == 0
    return workdir
