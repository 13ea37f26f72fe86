"""A trained model as a Python call."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from vitjax.data.errors import DataError, require_positive
from vitjax.data.memory import Picture, Pictures, is_picture, pictures_of
from vitjax.data.source import Classes, Source
from vitjax.evaluation.scores import Evaluation
from vitjax.inference.devices import devices_named
from vitjax.inference.sweep import Sweep
from vitjax.inference.task import NOTHING_ASKED, Asked, Task
from vitjax.inference.tiles import in_tiles, tile_side
from vitjax.inference.view import Results, View
from vitjax.placement import Precision, data_mesh, place_state
from vitjax.prediction import Answer

if TYPE_CHECKING:
    from vitjax.explain.attention_maps import Attention
    from vitjax.explain.group_maps import Groups
    from vitjax.explain.looks import Looks
    from vitjax.explain.sampling_points import Sampling
    from vitjax.explain.subject import Subject


class Predictor:
    """Predicts on paths, PIL images and arrays; compiles once per bucket of image sizes."""

    def __init__(
        self,
        task: Task,
        variables: dict[str, Any],
        classes: Classes,
        *,
        step: int = 0,
        precision: Precision | None = None,
        device: str | None = None,
        origin: str = "",
        shown_from: str = "the default",
    ) -> None:
        """Places the variables on all devices, or on those named; `step` is the checkpoint's, for people.

        The precision is that of float32 matrix products; None is JAX's own setting. `origin` and `shown_from` say in
        words where the weights and the threshold are from.

        Raises:
            FieldError: there is no such device.
        """
        self._mesh = data_mesh(devices_named(device))
        self.task = task
        self.model = task.model
        self.classes = classes
        self.step = step
        self.precision: Precision | None = precision
        self._origin, self._shown_from = origin, shown_from
        self._variables = place_state(variables, self._mesh)
        self._sweeps: dict[int | None, Sweep] = {}

    def __call__(
        self,
        pictures: Any,
        *,
        threshold: float | None = None,
        top: int | None = None,
        nms: float | None = None,
        tiles: int | str | bool | None = None,
        tile_overlap: float | None = None,
        batch_size: int = 8,
    ) -> Any:
        """What an image shows, or a list of that for a list of images or an array [images, height, width, channels].

        An image is a path, an http(s) address, a PIL image, an array of NumPy or JAX as `vitjax.data.arrays.as_rgb`
        takes it, or the bytes of a file. Of a detector a Prediction: detections that reach `threshold`, the `top` best,
        without those whose IoU with a better one is above `nms`. Of a classifier a Recognition: the `top` most probable
        classes. Of a segmenter a Labelling. What is not given is as the model's post-processing says. Each answer, and
        the list, has `draw()`, `save()`, `to_dict()` and `to_pandas()`.

        With `tiles`, a side in pixels or True for the size that the model sees, images that are larger are looked at
        in tiles that overlap by `tile_overlap`, as `vitjax.inference.tiles` says.

        Raises:
            DataError: an image is missing or cannot be read.
            FieldError: the model does not know what is asked for.
        """
        side = "own" if tiles is True else None if tiles is False else tiles
        asked = Asked(threshold, top, nms, side, tile_overlap)
        source = Pictures([pictures] if is_picture(pictures) else pictures_of(pictures), self.classes)
        batch_size = 1 if len(source) == 1 and asked.tiles is None else batch_size
        found = {one.record: one.prediction for one in self.predict(source, batch_size=batch_size, asked=asked)}
        for record, prediction in found.items():
            if prediction is None:
                raise DataError(f"{source.name(record)} cannot be read as an image; is it truncated?")
        shown = [self._shown(found[record], asked, source, record) for record in range(len(source))]
        return shown[0] if is_picture(pictures) else Results(shown)

    def _shown(self, found: Any, asked: Asked, source: Pictures, record: int) -> Any:
        shown = self.task.shown(self.task.kept(found, asked), asked)
        return dataclasses.replace(shown, view=View(self.task, self.classes, source, record))

    @property
    def threshold(self) -> float:
        """Score from which a detection is shown to people; 0 of other models."""
        return getattr(self.task.postprocess, "threshold", 0.0)

    def told(self, threshold: float | None = None) -> str:
        """A line for people: which weights these are, and from which score on boxes are shown, by whose word."""
        if not (self._origin and hasattr(self.task.postprocess, "threshold")):
            return self._origin
        score, word = (self.threshold, self._shown_from) if threshold is None else (threshold, "as asked for")
        return f"{self._origin}; boxes from a score of {score:g} on, {word}"

    def predict(
        self, source: Source, *, batch_size: int, asked: Asked = NOTHING_ASKED, workers: int = 0
    ) -> Iterator[Answer]:
        """What is predicted for every record of a source, unfiltered, in batches of about `batch_size`.

        Raises:
            FieldError: the model does not know what is asked for.
        """
        require_positive(batch_size=batch_size)
        self.task.allow(asked)
        task = self.task.asked(asked)
        top = None if task is self.task else asked.top
        if top not in self._sweeps:
            self._sweeps[top] = Sweep(task, self._mesh, self.precision)
        options: dict[str, Any] = {"batch_size": batch_size, "multiple": self._multiple, "workers": workers}
        look: Any = functools.partial(self._sweeps[top], self._variables, **options)
        if asked.tiles is None:
            return look(source)
        return in_tiles(look, source, side=tile_side(asked.tiles, task.preprocess), overlap=asked.tile_overlap)

    def evaluate(self, source: Source, *, batch_size: int, workers: int = 0) -> Evaluation:
        """The scores on a source, with a progress bar where stderr is a terminal."""
        answers = Sweep(self.task, self._mesh, self.precision)(
            self._variables, source, batch_size=batch_size, multiple=self._multiple, workers=workers
        )
        return self.task.evaluate(iter(tqdm(answers, total=len(source), disable=None)), source)

    @property
    def subject(self) -> "Subject":
        """What explanations are made of: the model, of one with masks its detector too, and how it is given images."""
        from vitjax.explain.subject import Subject
        from vitjax.families.known import detector_inside

        model, variables = detector_inside(self.model, self._variables)
        whole = None if model is self.model else (self.model, self._variables)
        return Subject(model, variables, self.task.preprocess, self.classes, self._multiple, self.threshold, whole)

    def sampling(self, picture: Picture) -> "Sampling":
        """Where a Deformable DETR samples one image: `.of_query()` and `.of_pixel(x, y)` tell the points.

        Raises:
            FieldError: the model is no DeformableDETR.
            DataError: the image is missing or cannot be read.
        """
        from vitjax.explain.sampling_points import sampling_of

        return sampling_of(self.subject, picture)

    def attention(self, picture: Picture) -> "Attention":
        """What a DETR attends to on one image: `.of_query()` and `.of_pixel(x, y)` tell the weights.

        Raises:
            FieldError: the model is no DETR.
            DataError: the image is missing or cannot be read.
        """
        from vitjax.explain.attention_maps import attention_of

        return attention_of(self.subject, picture)

    def groups(self, picture: Picture) -> "Groups":
        """Which tokens of a CrossFormer attend to each other on one image: `.of_pixel(x, y)` tells them.

        Raises:
            FieldError: the backbone is no CrossFormer.
            DataError: the image is missing or cannot be read.
        """
        from vitjax.explain.group_maps import groups_of

        return groups_of(self.subject, picture)

    def looks(self, picture: Picture) -> "Looks":
        """What the attention modules of the model do on one image: `.of_pixel(x, y)` tells it.

        Raises:
            FieldError: the model has none that tells it.
            DataError: the image is missing or cannot be read.
        """
        from vitjax.explain.looks import looks_of

        return looks_of(self.subject, picture)

    @property
    def _multiple(self) -> int:
        """What padded sides are a multiple of: coarse, so that photographs of many sizes share few compilations."""
        return 128 if (self.task.preprocess.size or 0) >= 512 else 32
