import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.checkpoints.paths import flatten
from vitjax.ops.initializers import torch_bias, torch_kernel
from vitjax.structs import Images
from vitjax.training import first_weights
from vitjax.training.first_weights import first_variables


class Model(nn.Module):
    """A layer of each kind of first weights, a layer computed anew and a loop; counted constants besides."""

    @nn.compact
    def __call__(self, images: Images, *, train: bool) -> jax.Array:
        x = nn.Conv(4, (3, 3), name="conv")(images.pixels)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x).mean((1, 2))
        for i, kernel in enumerate((nn.initializers.xavier_uniform(), torch_kernel, nn.initializers.normal(0.02))):
            x = nn.relu(nn.remat(nn.Dense)(4, kernel_init=kernel, bias_init=torch_bias(4), name=f"layer_{i}")(x))
        table = self.param("table", nn.initializers.normal(1.0), (2, 5))
        self.variable("constants", "unit", lambda: jnp.eye(3))
        return x @ self.param("start", lambda _: jnp.ones((4, 1))) + table.sum()


def whole(seed: int) -> dict:
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 64, 64), bool))
    return flatten(jax.jit(lambda: Model().init(jax.random.key(seed), images, train=False))())


@pytest.mark.parametrize("seed", [0, 7])
def test_first_variables_are_those_of_init_as_one_program(seed):
    expected, found = whole(seed), flatten(first_variables(Model(), seed))
    assert found.keys() == expected.keys() and "constants/unit" in found
    for path, leaf in found.items():
        assert leaf.dtype == expected[path].dtype
        # The compiler of the whole multiplies factors that follow each other beforehand.
        np.testing.assert_allclose(leaf, expected[path], rtol=2e-7, err_msg=path)


def test_some_of_them_are_drawn_without_the_others_and_are_the_same():
    everything = flatten(first_variables(Model(), 0))
    some = flatten(first_variables(Model(), 0, only={"params/layer_1/bias", "params/table"}))
    assert some.keys() == {"params/layer_1/bias", "params/table"}
    for path, leaf in some.items():
        np.testing.assert_array_equal(leaf, everything[path])


def test_random_numbers_come_in_chunks_of_one_program_for_each_distribution(monkeypatch):
    expected = flatten(first_variables(Model(), 3))
    drawn = []
    in_chunks = first_weights._in_chunks
    monkeypatch.setattr(first_weights, "_in_chunks", lambda name, *given: drawn.append(name) or in_chunks(name, *given))
    monkeypatch.setattr(first_weights, "CHUNK", 7)
    first_weights._chunk.cache_clear()
    found = flatten(first_variables(Model(), 3))
    first_weights._chunk.cache_clear()
    assert sorted(drawn) == ["_normal"] * 2 + ["_uniform"] * 5  # and one normal that is truncated, which JAX runs
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)
