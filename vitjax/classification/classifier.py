"""Image classification with the coarsest feature map of a backbone."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from vitjax.backbones.crossformer import CrossFormer
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.layers.norms import LayerNorm
from vitjax.structs import Images, Padding


class Classifier(nn.Module):
    """Backbone, norm, mean over the map and a linear head; the published CrossFormer as it is, ResNet without norm.

    What the head sees, `pooled`, is sown into `intermediates`.
    """

    task: ClassVar[str] = "classification"
    scores: ClassVar[str] = "classes"

    backbone: nn.Module = dataclasses.field(default_factory=CrossFormer)
    """What turns the image into feature maps; the coarsest is used."""
    num_classes: int | None = None
    """Number of class labels; None takes it from the data."""
    norm: bool = True
    """Normalise the map's tokens before the mean, as CrossFormer does; ResNet does not."""
    padding: Padding = "exact"
    """'exact': a padded image gives what it gives alone; 'reference': padding leaks as in the published code."""

    @property
    def family(self) -> str:
        """The family of its files, which is the backbone's: 'classifier' where the backbone names none."""
        return getattr(self.backbone, "family", "classifier")

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Float[Array, "batch classes"]:
        """Logits over the classes, in float32.

        Raises:
            FieldError: `num_classes` is still None.
        """
        if self.num_classes is None:
            raise FieldError(
                "Classifier needs num_classes; got None. Training fills it in from the data, or set it yourself."
            )
        feature = self.backbone(images, padding=self.padding, train=train)[-1]
        x = feature.values.astype(jnp.float32)
        if self.norm:
            x = LayerNorm(name="norm")(x)
        where = feature.valid[..., None] if self.padding == "exact" else None
        pooled = x.mean((1, 2), where=where)
        self.sow("intermediates", "pooled", pooled)
        return Dense(self.num_classes, kernel_init=nn.initializers.normal(0.02), name="head")(pooled)
