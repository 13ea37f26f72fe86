import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plug_ins import (
    CHANNELS,
    maps,
    refusal,
    require_gradients_in_bfloat16,
    require_identity_start,
    run,
    shapes,
    variables_of,
)

from vitjax.attention.non_local import WINDOWS, NonLocal

KERNELS = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
SPACES = {1: ((9,), (5,)), 2: ((5, 6), (3, 5)), 3: ((2, 5, 4), (2, 3, 3))}


def pooled(x, window):
    """Largest entries of whole windows, one by one."""
    space = tuple(side // pool for side, pool in zip(x.shape, window, strict=False))
    out = np.empty((*space, x.shape[-1]))
    for place in np.ndindex(space):
        cut = tuple(slice(i * pool, (i + 1) * pool) for i, pool in zip(place, window, strict=True))
        out[place] = x[cut].reshape(-1, x.shape[-1]).max(0)
    return out


def reference(x, variables, module):
    """The block on one image in float64, pairs written out."""
    params = variables["params"]
    project = {n: x @ params[n]["kernel"] + params[n]["bias"] for n in ("query", "key", "value") if n in params}
    query, key, value = project.get("query", x), project.get("key", x), project["value"]
    if module.subsample:
        key, value = (pooled(entry, WINDOWS[x.ndim - 1]) for entry in (key, value))
    query, key, value = (entry.reshape(-1, entry.shape[-1]) for entry in (query, key, value))
    scores = np.einsum("qc,kc->qk", query, key)
    if module.kernel == "concatenation":
        pairs = [[np.concatenate([q, k]) for k in key] for q in query]
        scores = np.maximum(np.einsum("qkc,co->qk", pairs, params["pair"]), 0)
    if module.kernel in ("gaussian", "embedded_gaussian"):
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
    else:
        weights = scores / len(key)
    y = np.einsum("qk,kc->qc", weights, value) @ params["output"]["kernel"] + params["output"]["bias"]
    if "norm" in params:
        running, norm = variables["batch_stats"]["norm"], params["norm"]
        y = (y - running["mean"]) / np.sqrt(running["var"] + 1e-5) * norm["scale"] + norm["bias"]
    return x + y.reshape(x.shape)


@pytest.mark.parametrize("subsample", [False, True], ids="subsample={}".format)
@pytest.mark.parametrize(
    ("kernel", "axes"), [*zip(KERNELS, (1, 2, 3, 2), strict=True)], ids=lambda value: f"{value}".replace("_", "-")
)
def test_it_is_the_formula_on_each_image_alone(kernel, axes, subsample):
    module = NonLocal(kernel, subsample, norm="none" if axes == 3 else "batch")
    (space, part) = SPACES[axes]
    x, valid = maps(space, part)
    y, sown = run(module, x, valid)
    wide = jax.tree.map(np.float64, variables_of(module))
    image = (1, *(slice(side) for side in part))
    np.testing.assert_allclose(y[0], reference(np.float64(x[0]), wide, module), atol=2e-5)
    np.testing.assert_allclose(y[image], reference(np.float64(x[image]), wide, module), atol=2e-5)
    assert not np.asarray(y)[~valid].any()
    windows = WINDOWS[axes] if subsample else (1,) * axes
    keys = np.prod([side // pool for side, pool in zip(space, windows, strict=True)])
    (weights,) = sown["attention"]
    assert weights.shape == (2, np.prod(space), keys) and weights.dtype == np.float32


@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "none"])
def test_it_starts_as_identity(norm):
    require_identity_start(NonLocal(norm=norm))


def test_its_batch_norm_sees_only_the_image_in_training():
    module, (x, valid) = NonLocal(), maps()
    shown, hidden = (jnp.where(valid[..., None], x, value) for value in (0, 7))
    train = jax.jit(lambda v, x: module.apply(v, x, valid, train=True, mutable="batch_stats"))
    (y, state), (wanted, same) = (train(variables_of(module), entry) for entry in (shown, hidden))
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state, same)
    assert not np.allclose(state["batch_stats"]["norm"]["mean"], variables_of(module)["batch_stats"]["norm"]["mean"])


@pytest.mark.parametrize("kernel", ["embedded_gaussian", "concatenation"])
def test_gradients_in_bfloat16(kernel):
    require_gradients_in_bfloat16(NonLocal(kernel, subsample=True))


def test_parameters_follow_the_options():
    found = shapes(variables_of(NonLocal("concatenation"))["params"])
    assert found.pop("pair") == (CHANNELS, 1)
    assert found == {
        "query/kernel": (16, 8), "query/bias": (8,), "key/kernel": (16, 8), "key/bias": (8,), "value/kernel": (16, 8),
        "value/bias": (8,), "output/kernel": (8, 16), "output/bias": (16,), "norm/scale": (16,), "norm/bias": (16,),
    }  # fmt: skip
    plain = shapes(variables_of(NonLocal("gaussian", channels=3, norm="none")))
    assert plain == {"params/value/kernel": (16, 3), "params/value/bias": (3,), "params/output/kernel": (3, 16),
                     "params/output/bias": (16,)}  # fmt: skip
    assert "frozen/norm/scale" in shapes(variables_of(NonLocal(norm="frozen_batch")))


@pytest.mark.parametrize(
    ("options", "space", "message"),
    [
        ({}, (2, 2, 2, 2), r"one to three axes of space; got an array of shape \(1, 2, 2, 2, 2, 8\)"),
        ({"subsample": True}, (4, 1), r"two places along every pooled axis; got a space of \(4, 1\)"),
        ({"kernel": "cosine"}, (2, 2), "kernel of a non-local block is one of gaussian, .*; got kernel='cosine'"),
        ({"norm": "layer"}, (2, 2), "norm of a non-local block is one of batch, .*; got norm='layer'"),
    ],
    ids=["axes", "too small", "kernel", "norm"],
)
def test_what_cannot_be_done_is_refused_in_words(options, space, message):
    with refusal(message):
        jax.eval_shape(lambda: NonLocal(**options).init(jax.random.key(0), jnp.ones((1, *space, 8))))
