"""Cross entropy of every pixel, as sums and counts that are divided once."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, UInt8

from vitjax.batch import NO_LABEL
from vitjax.errors import FieldError
from vitjax.structs import Mean, PixelLogits, Terms


@dataclasses.dataclass(frozen=True)
class PixelCrossEntropy:
    """Cross entropy over the labelled pixels of a batch, for each output of a dense model.

    Sources: Fu et al. 2019 (DANet sums the losses of its three outputs); Zhao et al. 2017 (0.4 for the auxiliary head).
    """

    task: ClassVar[str] = "segmentation"
    scores: ClassVar[str] = "classes"

    further: float = 1.0
    """Weight of each further output of the head, beside 1 for the first."""
    auxiliary: float = 0.4
    """Weight of the auxiliary head's output."""
    class_weights: tuple[float, ...] | None = None
    """What the loss of a pixel is multiplied with, by its class in the order of their labels; the sum is divided by the
    weights of the labelled pixels, as torch does it. None: all alike."""

    def __post_init__(self) -> None:
        """Raises a FieldError for a weight below 0."""
        for name in ("further", "auxiliary"):
            if getattr(self, name) < 0:
                raise FieldError(f"{name} is the weight of a loss, at least 0; got {getattr(self, name)}.")

    @jax.named_scope("loss")
    def __call__(self, logits: PixelLogits, labels: UInt8[Array, "batch height width"]) -> Terms:
        """`cross_entropy` of the answer, and for the log `pixel_error`: how many per cent of pixels it misses.

        The head's further outputs have `cross_entropy_1`, `cross_entropy_2`, ..., an auxiliary head `auxiliary`. Terms
        have one entry, like those of a detector with one layer of predictions.
        """
        terms = {f"cross_entropy_{i}": self._entropy(output, labels) for i, output in enumerate(logits.outputs)}
        main = terms.pop("cross_entropy_0")
        wrong = (logits.outputs[0].argmax(-1) != labels) & (labels != NO_LABEL)
        count = main.count if self.class_weights is None else (labels != NO_LABEL).sum(dtype=jnp.float32)[None]
        missed = {"pixel_error": Mean(100 * wrong.sum(dtype=jnp.float32)[None], count, least=1.0)}
        second = {} if logits.auxiliary is None else {"auxiliary": self._entropy(logits.auxiliary, labels)}
        return {"cross_entropy": main, **terms, **second, **missed}

    def total(self, terms: Terms) -> Float[Array, ""]:
        """The weighted sum of the mean cross entropies; 0 for a batch without a labelled pixel."""
        means = {name: mean.value.sum() for name, mean in terms.items()}
        further = sum(mean for name, mean in means.items() if name.startswith("cross_entropy_"))
        return means["cross_entropy"] + self.further * further + self.auxiliary * means.get("auxiliary", 0)

    def _entropy(
        self, logits: Float[Array, "batch height width classes"], labels: UInt8[Array, "batch height width"]
    ) -> Mean:
        known = labels != NO_LABEL
        logits = logits.astype(jnp.float32)
        # A sum rather than a gather, whose gradient would scatter.
        chosen = (jax.nn.one_hot(labels, logits.shape[-1]) * logits).sum(-1)
        entropy = jax.nn.logsumexp(logits, axis=-1) - chosen
        if self.class_weights is not None:
            weights = jnp.asarray((*self.class_weights, *[0.0] * (NO_LABEL + 1 - len(self.class_weights))))[labels]
            return Mean((weights * entropy).sum()[None], weights.sum()[None], least=1e-12)
        # Without any label the mean is 0, and not a NaN that would end the run.
        return Mean(jnp.where(known, entropy, 0).sum()[None], known.sum(dtype=jnp.float32)[None], least=1.0)
