import dataclasses
import math
from types import SimpleNamespace
from typing import Any, ClassVar

import flax.linen as nn
import pytest

from vitjax.data.crops import CenterCrop
from vitjax.data.digit_maps import DigitMaps
from vitjax.data.memory import Pictures
from vitjax.data.source import Classes
from vitjax.data.transforms import Augmentation, Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.dino import DINO
from vitjax.detection.focal_loss import FocalSetLoss
from vitjax.detection.loss import SetLoss
from vitjax.errors import FieldError
from vitjax.evaluation.coco import METRICS
from vitjax.runs.experiment import Experiment, fitted, require_score
from vitjax.runs.optimizer import AdamW, CosineSchedule, StepSchedule
from vitjax.segmentation.detr_masks import MaskDETR
from vitjax.tasks import experiment_of
from vitjax.tasks.classification import Classification
from vitjax.tasks.detection import Detection
from vitjax.tasks.segmentation import Segmentation

NAN, INFINITE = math.nan, math.inf
NUMBERS = {
    Detection: {
        "epochs": (-1, 0, NAN, INFINITE, "3", None),
        "batch_size": (0, -4, 2.5, True),
        "micro_batches": (0, -1, 1.0),
        "average": (0.0, 1.0, NAN, -0.5),
        "evaluation_batch_size": (0, 1.5),
        "evaluate_every": (0, -1, NAN),
        "save_every": (0, NAN),
        "log_every": (0, -1, 0.5),
        "keep_last": (0, -1),
        "keep_best": (-1, NAN),
        "workers": (-1, 1.5),
        "seed": (-1, 0.5, 2**63),
    },
    AdamW: {
        "learning_rate": (-1e-3, NAN, INFINITE),
        "reference_batch_size": (0, NAN),
        "weight_decay": (-0.1, NAN),
        "b1": (0.0, 1.0, NAN),
        "b2": (0, 1, -1),
        "eps": (-1e-8, NAN),
        "clip_norm": (0, -0.1, NAN),
    },
    StepSchedule: {
        "drop_epochs": ((-1.0,), (NAN,)),
        "factor": (-0.1, NAN),
        "warmup_steps": (-1, 0.5),
        "warmup_start": (-0.1, NAN),
    },
    CosineSchedule: {
        "warmup_steps": (-1, 0.5),
        "warmup_epochs": (-1, NAN),
        "warmup_start": (-0.1, INFINITE),
        "final": (-0.1, NAN),
    },
}
CASES = [(kind, name, value) for kind, fields in NUMBERS.items() for name, values in fields.items() for value in values]


@pytest.mark.parametrize("kind, name, value", CASES, ids=lambda each: getattr(each, "__name__", str(each)))
def test_a_number_that_means_nothing_is_an_error_that_names_field_wish_and_value(kind, name, value):
    with pytest.raises(FieldError, match=rf"{name} must be a .*; got ") as caught:
        kind(**{name: value})
    assert str(value[0] if isinstance(value, tuple) else value) in str(caught.value)


def test_what_is_not_wanted_may_be_none():
    Detection(average=None, evaluation_batch_size=None, optimizer=AdamW(clip_norm=None, reference_batch_size=None))


def test_a_multiplier_that_is_no_number_is_named_with_its_pattern():
    with pytest.raises(FieldError, match="multiplier of 'head' is nan"):
        AdamW(multipliers={"head": NAN})


def test_a_batch_is_divided_evenly():
    with pytest.raises(FieldError, match="divided among micro_batches evenly; got 6 and 4"):
        Detection(batch_size=6, micro_batches=4)


def test_a_mistyped_score_gets_the_nearest_name():
    require_score(None, METRICS)
    require_score("AP50", METRICS)
    with pytest.raises(FieldError, match=r"best is one of AP, .*; got 'ap'\. Did you mean AP\?"):
        require_score("ap", METRICS)
    with pytest.raises(FieldError, match=r"got 'top-1'\. Did you mean top1\?"):
        require_score("top-1", ("top1", "top5"))


def test_a_model_has_as_many_classes_as_the_data_or_as_it_says_but_not_fewer():
    source = Pictures([], Classes(("cat", "dog"), (3, 5)))
    assert [fitted(DETR(num_classes=count), source).num_classes for count in (None, 2, 3)] == [2, 2, 3]
    with pytest.raises(FieldError, match=r"the data has 2 class labels and the model 1; .* at least 2"):
        fitted(DETR(num_classes=1), source)


def test_a_model_has_as_many_queries_as_it_says_or_several_for_each_object_of_the_data():
    source = SimpleNamespace(classes=Classes(("cat", "dog"), (3, 5)), max_objects=28)
    assert fitted(MaskDETR(DINO(num_queries=None)), source).num_queries == 200
    assert fitted(DeformableDETR(num_queries=7), source).num_queries == 7


def test_a_part_for_several_tasks_goes_into_these_and_every_part_that_does_not_is_named():
    parts = {"augmentation": Augmentation(flip=0.25), "resize": Resize(64, 96)}
    assert Detection(**parts).resize == Segmentation(**parts).resize == Resize(64, 96)
    with pytest.raises(FieldError, match=r"not: augmentation=Augmentation, resize=Resize\."):
        Classification(**parts)


def test_the_best_checkpoint_is_that_of_the_score_that_is_named_or_of_the_tasks_first():
    assert [Detection(best=name).score for name in (None, "AP50")] == ["AP", "AP50"]


class Counter(nn.Module):
    """A model for a task that vitjax does not have, and that tells no classes apart."""

    task: ClassVar[str] = "counting"


class Nameless(nn.Module):
    """A model that does not say what it is for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counting(Experiment):
    """The experiment of such a task, which takes parts of others."""

    kind: ClassVar[str] = "counting"

    model: nn.Module = dataclasses.field(default_factory=Counter)
    data: Any = None
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    resize: Resize = dataclasses.field(default_factory=Resize)
    loss: Any = None
    postprocess: Any = None

    @classmethod
    def data_of(cls, classes):
        raise NotImplementedError

    def plan(self, source):
        raise NotImplementedError

    def objective(self, mesh):
        raise NotImplementedError


def test_a_new_task_takes_the_parts_that_its_fields_name_and_no_others():
    assert Counting().resize == Resize()
    with pytest.raises(FieldError, match=r"parts for counting, and these are not: resize=CenterCrop\."):
        Counting(resize=CenterCrop())


def test_a_subclass_for_another_task_is_not_what_a_field_names():
    with pytest.raises(FieldError, match=r"parts for detection, and these are not: data=DigitMaps\."):
        Detection(data=DigitMaps())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"postprocess": None}, r"postprocess must be a BestClass or TopDetections; got None\."),
        ({"loss": SetLoss}, r"loss must be a SetLoss or .*; got the class SetLoss; write SetLoss\(\)\."),
        ({"loss": FocalSetLoss()}, r"DETR gives softmax scores .*; it goes with SetLoss and BestClass\."),
    ],
)
def test_a_careless_part_is_one_line_that_says_what_goes(parts, message):
    with pytest.raises(FieldError, match=message):
        Detection(**parts)


def test_a_model_without_a_task_is_a_detector_and_nothing_else():
    Detection(model=Nameless())
    with pytest.raises(FieldError, match=r'Nameless has no task .* `task: ClassVar\[str\] = "segmentation"`'):
        Segmentation(model=Nameless())


def test_a_task_that_there_is_not_is_named():
    with pytest.raises(FieldError, match=r"Counter is for the task 'counting'; there are detection, classification, s"):
        experiment_of(Counter())


class Pair:
    """A source of two classes."""

    classes = Classes(("a", "b"), (1, 2))


def test_a_model_that_tells_no_classes_apart_is_given_none():
    assert fitted(Counter(), Pair()) == Counter()
