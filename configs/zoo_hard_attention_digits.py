"""A classifier that learns where to look for the one digit on a cluttered canvas, in minutes on a CPU.

Source: Mnih et al. 2014 (RAM) on cluttered translated MNIST, scaled down to the digits that come with scikit-learn.
Model: RecurrentAttention
Parameters: 417,213 with 10 classes
Published: none, it is vitjax's own
Measured here: top-1 95.6, 95.9 and 94.6 % with seeds 0, 1 and 2, in 3:24 to 5:31 on two busy CPU cores
With seed 0, --model.policy gumbel 91.1 %, central glimpses 36.0 %, random ones 35.9 %.
"""

from vitjax import AdamW, Classification, CosineSchedule
from vitjax.classification import PolicyLoss, RecurrentAttention, TopClasses
from vitjax.data import CenterCrop, DigitCanvas, RandAugment, RandomCrop

SIDE = 60


def experiment() -> Classification:
    """The run."""
    return Classification(
        model=RecurrentAttention(glimpses=4, glimpse_size=12, scales=2),
        data=DigitCanvas(
            size=SIDE, digit=20, clutter=4, fragment=8, rotation=0.0, train_images=20_000, val_images=1000
        ),
        augmentation=RandomCrop(  # none, for every record is another canvas
            size=SIDE, area=(1.0, 1.0), aspect=(1.0, 1.0), flip=0.0, rand_augment=RandAugment(operations=0)
        ),
        resize=CenterCrop(size=SIDE, resize=SIDE),
        loss=PolicyLoss(reward="correct", reinforce=0.1),
        postprocess=TopClasses(),
        optimizer=AdamW(
            learning_rate=2e-3,
            weight_decay=0.0,
            clip_norm=1.0,
            # Early rewards are noise, and Adam would follow it into a corner before there is anything to see there.
            multipliers={"policy|where|start|coarse_view": 0.2},
            schedule=CosineSchedule(warmup_steps=100, final=1e-2),
        ),
        epochs=8,
        batch_size=64,
        evaluation_batch_size=100,
        evaluate_every=2,
        save_every=2,
        log_every=100,
    )
