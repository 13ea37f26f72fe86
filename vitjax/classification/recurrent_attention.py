"""A classifier that never sees an image whole: it looks at a few small parts of it, one after the other.

Sources: Mnih et al. 2014 (RAM), section 3; Ba et al. 2015 (DRAM), section 3, for two recurrent networks and the view
of the whole that only says where to look first.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float

from vitjax.attention.hard import CellPolicy, Choice, GlimpseSensor, LocationPolicy, overview
from vitjax.errors import FieldError
from vitjax.layers.linear import Dense
from vitjax.structs import Images


@struct.dataclass
class Glimpsed:
    """What is known after each glimpse; log_probs and baselines are None where no choice was learned by reward."""

    logits: Float[Array, "batch glimpses classes"]
    log_probs: Float[Array, "batch glimpses"] | None
    baselines: Float[Array, "batch glimpses"] | None


class RecurrentAttention(nn.Module):
    """Glimpses at places that a policy chooses, two recurrent networks and a linear head.

    One network, `what`, gathers what was seen, and the head reads it alone. The other, `where`, starts from a coarse
    view of the whole image and chooses each place; what it knows does not reach the head.

        where_0 = encode(overview)          l_t ~ policy(where_t)       g_t = glimpse(patches at l_t, l_t)
        what_t = GRU(what_{t-1}, g_t)       where_{t+1} = GRU(where_t, [what_t, l_t])
        logits_t = head(what_t)             b_t = baseline(where_t)

    The places, `locations` [batch glimpses 2], are sown into `intermediates`: xy as shares of the image.
    """

    task: ClassVar[str] = "classification"
    family: ClassVar[str] = "recurrent_attention"
    scores: ClassVar[str] = "classes"

    num_classes: int | None = None
    """Number of class labels; None takes it from the data."""
    policy: Literal["reinforce", "gumbel", "central", "random"] = "reinforce"
    """How places are chosen: around a mean learned by reward, among cells with gradients through the choice; or, to
    compare with, always the centre or anywhere by chance, which learn nothing."""
    glimpses: int = 6
    """How often it looks."""
    glimpse_size: int = 12
    """Side of a glimpse in pixels."""
    scales: int = 2
    """Patches of a glimpse; each shows twice the side of the one before, more coarsely."""
    overview: int = 12
    """Side in pixels of the coarse view of the whole image; 'gumbel' has a cell for every 2 x 2 of them."""
    deviation: float = 0.1
    """Of 'reinforce': standard deviation of the place around its mean, as a share of the image."""
    temperature: float = 1.0
    """Of 'gumbel': temperature of the softmax that gradients go through."""
    channels: int = 128
    """Width of all layers."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What is computed in; places, probabilities and logits are float32 always."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> Float[Array, "batch classes"] | Glimpsed:
        """In training what is known after each glimpse, at places drawn with the random numbers called 'dropout'.

        Otherwise the logits after the last glimpse, in float32, at the policy's likeliest places.

        Raises:
            FieldError: `num_classes` is still None.
        """
        if self.num_classes is None:
            raise FieldError(
                "RecurrentAttention needs num_classes; got None. Training fills it in from the data, or set it "
                "yourself."
            )
        seen = CoarseView(self.channels, self.dtype, name="coarse_view")(overview(images, self.overview))
        where = nn.relu(Dense(self.channels, dtype=self.dtype, name="start")(seen.reshape(len(seen), -1)))
        what = jnp.zeros_like(where)
        look = self._look(images, seen, sample=train)
        glimpse = Glimpse(self.channels, self.dtype, name="glimpse")
        gather, remember = (nn.GRUCell(self.channels, dtype=self.dtype, name=name) for name in ("what", "where"))
        head, baseline = (
            Dense(self.num_classes, name="head"),
            Dense(1, kernel_init=nn.initializers.zeros, name="baseline"),
        )
        known: list[tuple[Array, ...]] = []
        for _ in range(self.glimpses):
            expected = baseline(lax.stop_gradient(where.astype(jnp.float32)))[:, 0]  # before the choice: no bias
            choice, patches = look(where)
            what, _ = gather(what, glimpse(patches, choice.locations))
            told = jnp.concatenate([lax.stop_gradient(what), choice.locations.astype(what.dtype)], -1)
            where, _ = remember(where, told)
            known.append((head(what.astype(jnp.float32)), choice.log_probs, expected, choice.locations))
        logits, log_probs, baselines, locations = (jnp.stack(values, 1) for values in zip(*known, strict=True))
        self.sow("intermediates", "locations", locations)
        if not train:
            return logits[:, -1]
        rewarded = self.policy == "reinforce"
        return Glimpsed(logits, log_probs if rewarded else None, baselines if rewarded else None)

    def _look(self, images: Images, seen: Array, *, sample: bool) -> Callable[[Array], tuple[Choice, Array]]:
        """The function from the state of `where` to a choice and the patches seen there."""
        sensor = GlimpseSensor(self.glimpse_size, self.scales)
        choose = self._policy(seen, sample=sample)
        everywhere = sensor.of_cells(images, seen.shape[1]) if sample and self.policy == "gumbel" else None

        def look(where: Array) -> tuple[Choice, Array]:
            choice = choose(where)
            if everywhere is None:
                return choice, sensor(images, choice.locations)
            # A sum over all cells of which one counts, so that gradients tell what the others would have shown.
            return choice, jnp.einsum("bk,bkijc->bijc", choice.cells, everywhere)

        return look

    def _policy(self, seen: Array, *, sample: bool) -> Callable[[Array], Choice]:
        """The function from the state of `where` to a choice."""
        if self.policy == "reinforce":
            return partial(LocationPolicy(self.deviation, name="policy"), sample=sample)
        if self.policy == "gumbel":
            return partial(CellPolicy(self.temperature, name="policy"), seen=seen, sample=sample)
        batch = len(seen)
        if self.policy == "central":
            return lambda _: Choice(jnp.full((batch, 2), 0.5), jnp.zeros(batch))
        # In evaluation the same places for all images, so that none depends on its row in the batch.
        key, drawn = (self.make_rng("dropout"), batch) if sample else (jax.random.key(0), 1)
        keys = iter(jax.random.split(key, self.glimpses))
        anywhere = partial(jax.random.uniform, shape=(drawn, 2))
        return lambda _: Choice(jnp.broadcast_to(anywhere(next(keys)), (batch, 2)), jnp.zeros(batch))


class CoarseView(nn.Module):
    """Two 3 x 3 convolutions over the coarse view, the second of stride 2: features of every 2 x 2 of its pixels."""

    channels: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch h w colours"]) -> Float[Array, "batch rows columns features"]:
        """A quarter of `channels` features for every cell."""
        conv = partial(nn.Conv, self.channels // 4, (3, 3), dtype=self.dtype)
        return nn.relu(conv(strides=2, name="conv_2")(nn.relu(conv(name="conv_1")(x))))


class Glimpse(nn.Module):
    """What is seen in the patches, and where they lie: relu(W_1 see(patches) + W_2 relu(W_3 location)).

    `see` is two 3 x 3 convolutions with max pooling and a linear layer, where RAM has two linear layers.
    """

    channels: int
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, patches: Float[Array, "batch size size patches"], locations: Float[Array, "batch 2"]
    ) -> Float[Array, "batch channels"]:
        """The sum of both, with a bias each."""
        dense = partial(Dense, self.channels, dtype=self.dtype)
        x = patches
        for i, channels in enumerate((self.channels // 8, self.channels // 4), start=1):
            x = nn.relu(nn.Conv(channels, (3, 3), dtype=self.dtype, name=f"conv_{i}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        place = nn.relu(dense(name="place")(2 * locations - 1))
        return nn.relu(dense(name="from_seen")(x.reshape(len(x), -1)) + dense(name="from_place")(place))
