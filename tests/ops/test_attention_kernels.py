"""The kernels of attention, by the interpreter that Pallas has for CPUs."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vitjax.attention.conditional import ConditionalAttention
from vitjax.attention.multi_head import MultiHeadAttention
from vitjax.ops import kernels
from vitjax.ops.residuals import dropped, hashed_bits

pytest.importorskip("jax.experimental.pallas.triton")
from vitjax.ops.kernels import attention as by_kernel
from vitjax.ops.kernels.attention import Blocks, attended, attended_gradients, attention, backward, forward

KEY = jax.random.key(7)
SMALL = {"blocks": Blocks(16, 32)}
SMALL_BACK = {"by_queries": Blocks(16, 32), "by_keys": Blocks(32, 16)}
SIZES = {
    "less than a block": (2, 5, 7, 2, 16, 16),
    "several blocks": (2, 37, 70, 3, 16, 16),
    "as many as blocks": (1, 32, 64, 1, 32, 32),
    "values of another width": (2, 19, 33, 2, 64, 16),
}


def drawn(batch, queries, keys, heads, channels, width, dtype=np.float32, pairs=False):
    """q, k, v, a mask, and a cotangent. Of the last of several images no key counts, and some queries see none."""
    random = np.random.default_rng(queries)
    shapes = (queries, channels), (keys, channels), (keys, width), (queries, width)
    q, k, v, cotangent = (
        jnp.asarray(random.normal(size=(batch, tokens, heads, size)), dtype) for tokens, size in shapes
    )
    mask = random.random((batch, 1, queries if pairs else 1, keys)) < 0.7
    mask[-1] = batch == 1
    mask[0, 0, 1:3] = False
    return q, k, v, jnp.asarray(mask), cotangent


def seeds_of(q, k):
    (batch, queries, heads, _), keys = q.shape, k.shape[1]
    first = np.arange(batch * heads, dtype=np.uint32).reshape(batch, heads, 1) * np.uint32(queries * keys)
    words = np.broadcast_to(jax.random.key_data(KEY), (batch, heads, 2))
    return jnp.asarray(np.concatenate([first, words], 2))


def in_float64(rate, q, k, v, mask, cotangent):
    """Attention and its gradients, as the formulas have them."""
    q, k, v, cotangent = (np.asarray(array, np.float64).swapaxes(1, 2) for array in (q, k, v, cotangent))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[-1])
    scores = np.where(mask, scores, np.finfo(np.float32).min)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    kept = np.ones(scores.shape)
    if rate:
        kept = np.where(dropped(hashed_bits(KEY, scores.shape), rate), 0, 1 / (1 - rate))
    by_weights = cotangent @ v.swapaxes(2, 3) * kept
    by_scores = weights * (by_weights - (by_weights * weights).sum(-1, keepdims=True))
    by_scores = np.where(mask, by_scores, 0) / np.sqrt(q.shape[-1])
    found = (
        (weights * kept) @ v,
        by_scores @ k,
        by_scores.swapaxes(2, 3) @ q,
        (weights * kept).swapaxes(2, 3) @ cotangent,
    )
    return [array.swapaxes(1, 2) for array in found]


def computed(rate, q, k, v, mask, cotangent):
    given = q, k, v, mask[:, 0].astype(jnp.int8), seeds_of(q, k)
    out, most, total = forward(rate, *given, **SMALL, interpret=True)
    met = jnp.einsum("bqhd,bqhd->bhq", out, cotangent, preferred_element_type=jnp.float32)
    return out, *backward(rate, *given, most, total, met, cotangent, **SMALL_BACK, interpret=True)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("pairs", [False, True], ids=["keys", "pairs"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_mixtures_and_gradients_are_those_of_the_formulas_in_float64(sizes, pairs, rate):
    given = drawn(*sizes, pairs=pairs)
    for found, wanted in zip(computed(rate, *given), in_float64(rate, *given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_numbers_are_summed_in_float32(dtype):
    given = drawn(2, 20, 200, 2, 32, 32, dtype)
    for found, wanted in zip(computed(0.1, *given), in_float64(0.1, *given), strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(found.astype(np.float32), wanted, rtol=0.02, atol=0.02)


def test_large_scores_overflow_nowhere():
    q, k, *rest = drawn(1, 20, 40, 1, 16, 16)
    given = 8 * q, 8 * k, *rest
    for found, wanted in zip(computed(0.0, *given), in_float64(0.0, *given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def outputs_and_gradients(rate, q, k, v, mask, cotangent):
    out, back = jax.vjp(lambda q, k, v: attention(rate, KEY if rate else None, q, k, v, mask), q, k, v)
    return out, *back(cotangent)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_what_other_devices_compute_in_their_place_is_the_same(rate):
    given = drawn(2, 9, 13, 2, 16, 16, pairs=True)
    for found, wanted in zip(outputs_and_gradients(rate, *given), in_float64(rate, *given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    every = outputs_and_gradients(rate, *given[:3], None, given[4])
    for found, wanted in zip(every, in_float64(rate, *given[:3], True, given[4]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture
def on_cpu(monkeypatch):
    """The kernels interpreted in programs as a GPU has them: `platform_dependent` takes what is for one."""
    monkeypatch.setattr(by_kernel, "forward", partial(forward, **SMALL, interpret=True))
    monkeypatch.setattr(by_kernel, "backward", partial(backward, **SMALL_BACK, interpret=True))
    jax.clear_caches()
    with monkeypatch.context() as patch:
        patch.setattr(jax.lax, "platform_dependent", lambda *given, cuda, default: cuda(*given))
        yield
    jax.clear_caches()


def test_devices_mix_their_own_images_with_zeros_of_their_own(on_cpu):
    """XLA knows nothing of a kernel, and left to itself would send every device all images."""
    given = drawn(2, 9, 13, 2, 16, 16)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    placed = [jax.device_put(array, NamedSharding(mesh, PartitionSpec("data"))) for array in given]
    program = jax.jit(partial(outputs_and_gradients, 0.3)).lower(*placed).compile()
    assert not any(word in program.as_text() for word in ("all-gather", "all-reduce", "all-to-all"))
    for found, wanted in zip(program(*placed), in_float64(0.3, *given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_mapped_function_mixes_a_larger_batch():
    q, k, v, mask, cotangent = drawn(2, 9, 13, 2, 16, 16)
    given = q, k, v, mask[:, 0].astype(jnp.int8), seeds_of(q, k)
    interpreted = partial(forward, **SMALL, interpret=True), partial(backward, **SMALL_BACK, interpret=True)
    with pytest.MonkeyPatch.context() as patch:
        for name, part in zip(("forward", "backward"), interpreted, strict=True):
            patch.setattr(by_kernel, name, part)
        apart = [array[:, None] for array in given]
        out, most, total = jax.vmap(partial(attended, 0.3))(*apart)
        met = jnp.einsum("abqhd,abqhd->abhq", out, cotangent[:, None])
        gradients = jax.vmap(partial(attended_gradients, 0.3))(*apart, most, total, met, cotangent[:, None])
    for found, wanted in zip((out, *gradients), in_float64(0.3, q, k, v, mask, cotangent), strict=True):
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5, atol=1e-5)


@pytest.fixture
def gpu(monkeypatch):
    """What our code finds of JAX's devices: one that has kernels. Programs still run on the CPU, without them."""
    device = type("Gpu", (), {"device_kind": "NVIDIA H100", "compute_capability": "9.0"})
    monkeypatch.setattr(kernels.jax, "devices", lambda: [device])
    monkeypatch.setattr(kernels.jax, "default_backend", lambda: "gpu")


class Mixed(nn.Module):
    """Attention, as models have it."""

    kind: type
    dtype: str | None = "bfloat16"

    @nn.compact
    def __call__(self, query, key, valid):
        attend = self.kind(heads=2, dropout=0.3, dtype=self.dtype)
        if self.kind is ConditionalAttention:
            return attend(query, None, key, key, valid, query, train=True)
        return attend(query, key, key, valid, train=True)


@pytest.mark.parametrize("kind", [MultiHeadAttention, ConditionalAttention])
def test_modules_mix_on_a_gpu_what_they_mix_elsewhere_with_the_same_zeros(gpu, kind):
    random, module = np.random.default_rng(0), Mixed(kind)
    query, key = (jnp.asarray(random.normal(size=(2, tokens, 32)), jnp.float32) for tokens in (9, 13))
    valid = jnp.asarray(random.random((2, 13)) < 0.7)
    variables = module.init({"params": KEY, "dropout": KEY}, query, key, valid)

    def run(module, **options):
        return module.apply(variables, query, key, valid, rngs={"dropout": KEY}, **options)

    def has_kernels(module):
        return "custom_partitioning" in str(jax.make_jaxpr(partial(run, module))())

    with kernels.without_kernels():
        wanted = run(module)
        assert not has_kernels(module)
    assert has_kernels(module) and not has_kernels(Mixed(kind, dtype=None))
    np.testing.assert_allclose(run(module).astype(np.float32), wanted.astype(np.float32), rtol=0.02, atol=0.02)
    explicit, sown = run(module, mutable=["intermediates"])
    np.testing.assert_array_equal(explicit, wanted)
    assert "weights" in str(jax.tree.structure(sown))


@pytest.mark.parametrize(
    ("shape", "dtype", "serve"),
    [
        ((2, 9, 2, 32), jnp.bfloat16, True),
        ((2, 9, 2, 64), jnp.float16, True),
        ((2, 9, 2, 32), jnp.float32, False),
        ((2, 9, 2, 24), jnp.bfloat16, False),
        ((2, 9, 2, 8), jnp.bfloat16, False),
        ((2, 9, 2, 256), jnp.bfloat16, False),
        ((2, 0, 2, 32), jnp.bfloat16, False),
        ((2**14, 9, 8, 32), jnp.bfloat16, False),  # more heads than a grid has rows
        ((2, 2**22, 8, 32), jnp.bfloat16, False),  # more numbers than 32 bits count
    ],
)
def test_kernels_serve_narrow_numbers_of_some_sizes(gpu, shape, dtype, serve):
    said = []
    jax.eval_shape(lambda array: said.append(kernels.attend(array, array, array)), jax.ShapeDtypeStruct(shape, dtype))
    assert said == [serve]


def test_nobody_on_a_cpu_has_them():
    array = jnp.zeros((2, 9, 2, 32), jnp.bfloat16)
    assert not kernels.attend(array, array, array)
