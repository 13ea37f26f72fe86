import pytest

from vitjax.backbones import ResNet
from vitjax.data import Augmentation, Digits
from vitjax.detection import DETR
from vitjax.tasks.detection import Detection
from vitjax.training.prepare import prepare

MODEL = DETR(
    backbone=ResNet(width=8, stage_blocks=(1,), norm="group"),
    num_queries=4,
    channels=16,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
)


@pytest.mark.parametrize(("epochs", "least", "steps"), [(3, 0, 12), (3, 50, 50), (30, 50, 120), (0.01, 0, 1)])
def test_a_run_of_few_images_has_at_least_so_many_steps(epochs, least, steps):
    experiment = Detection(
        model=MODEL,
        data=Digits(train_images=16, val_images=4),
        augmentation=Augmentation(sizes=(64,), max_side=64),
        batch_size=4,
        epochs=epochs,
        least_steps=least,
    )
    assert prepare(experiment).total_steps == steps
