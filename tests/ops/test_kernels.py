"""The kernels for GPUs, by the interpreter that Pallas has for CPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import triton
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ops.test_sampling import STRANGE, apart, assert_close, drawn, oracle, together

from vitjax.ops import kernels
from vitjax.ops.assignment import linear_assignment
from vitjax.ops.kernels.assignment import assigned
from vitjax.ops.kernels.sampling import backward, forward, sampled, sampled_gradients
from vitjax.ops.sampling import sampling_at

interpreted = partial(assigned, interpret=True)


def row_by_row(ref, index, added, mask):
    """What an atomic sum does; the interpreter has none, and would lose all but one of those to the same place."""
    (index,) = index
    for row, numbers, counts in zip(index, added, jnp.broadcast_to(mask, added.shape), strict=True):
        before = triton.load(ref.at[row], mask=counts, other=0.0)
        triton.store(ref.at[jnp.where(counts, row, ref.shape[0])], before + numbers, mask=counts)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(triton, "atomic_add", row_by_row)


def computed(shapes, rows, *inputs):
    parts = (partial(part, rows=rows, interpret=True) for part in (forward, backward))
    first, then = (jax.jit(partial(part, shapes)) for part in together(*parts))
    return first(*inputs[:-1]), *then(*inputs)


@pytest.mark.parametrize(
    ("shapes", "sizes"),
    [
        (((5, 7), (3, 4), (1, 1)), {}),
        (((1, 6), (5, 1)), {"batch": 1, "queries": 5, "heads": 3, "points": 1, "channels": 5}),
        (((2, 2),), {"batch": 3, "queries": 1, "heads": 1, "points": 3, "channels": 1}),
    ],
)
def test_samples_and_gradients_are_those_of_loops_in_float64(shapes, sizes):
    inputs = drawn(0, shapes, **sizes)
    inputs[1].ravel()[: 2 * len(STRANGE) : 2] = STRANGE
    assert_close(computed(shapes, 8, *inputs), oracle(shapes, *inputs))


def test_bfloat16_values_are_summed_in_float32():
    value, locations, weights, cotangent = drawn(0)
    value, cotangent = (jnp.asarray(array, jnp.bfloat16) for array in (value, cotangent))
    shapes = ((5, 7), (3, 4), (1, 1))
    found = computed(shapes, 16, value, locations, weights, cotangent)
    assert [array.dtype for array in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    for one, other in zip(found, oracle(shapes, value, locations, weights, cotangent), strict=True):
        np.testing.assert_allclose(np.asarray(one, np.float32), other, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 7), (12, 30), (16, 16)])
def test_rows_are_assigned_as_loops_assign_them_ties_included(rows, columns):
    random = np.random.default_rng(rows)
    cost = np.stack([random.normal(size=(rows, columns)), random.integers(0, 3, (rows, columns))] * 2)
    counts = np.array([rows, rows, rows // 2, 0])
    found, wanted = (
        jax.jit(jax.vmap(way))(cost.astype(np.float32), counts) for way in (interpreted, linear_assignment)
    )
    np.testing.assert_array_equal(found, wanted)


def test_devices_sample_their_own_images(monkeypatch):
    """XLA knows nothing of a kernel, and left to itself would send every device all images."""
    for name in ("forward", "backward"):
        part = partial(getattr(kernels.sampling, name), rows=8, interpret=True)
        monkeypatch.setattr(kernels.sampling, name, part)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    shapes = ((5, 7), (3, 4), (1, 1))
    value, locations, weights, cotangent = drawn(0)
    inputs = value, *apart(locations), weights
    placed = [jax.device_put(array, NamedSharding(mesh, PartitionSpec("data"))) for array in (*inputs, cotangent)]

    @jax.jit
    def both(*given):
        return sampled(shapes, *given[:-1]), *sampled_gradients(shapes, *given)

    program = both.lower(*placed).compile()
    assert not any(word in program.as_text() for word in ("all-gather", "all-reduce", "all-to-all"))
    wanted = oracle(shapes, value, locations, weights, cotangent)
    out, by_value, by_x, by_y, by_weights = program(*placed)
    assert_close((out, by_value, np.stack([by_x, by_y], -1), by_weights), wanted)


def test_a_mapped_function_is_sampled_as_a_larger_batch(monkeypatch):
    monkeypatch.setattr(kernels.sampling, "forward", partial(forward, rows=8, interpret=True))
    value, locations, weights, _ = map(jnp.asarray, drawn(0))
    shapes = ((5, 7), (3, 4), (1, 1))
    given = [array[:, None] for array in (value, *apart(locations))]
    out = jax.vmap(partial(sampled, shapes), (0, 0, 0, None))(*given, weights[:1])
    wanted = sampling_at(value, shapes, *apart(locations), jnp.repeat(weights[:1], 2, 0))
    np.testing.assert_allclose(out[:, 0], wanted, rtol=1e-5, atol=1e-6)


def test_on_a_gpu_they_are_in_a_program_and_not_in_one_to_be_written_down(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [type("Gpu", (), {"compute_capability": "9.0"})])
    value, locations, weights, _ = map(jnp.asarray, drawn(0))

    def program(value, x, y, weights, cost):
        out = sampling_at(value, ((5, 7), (3, 4), (1, 1)), x, y, weights)
        return out, jax.vmap(linear_assignment)(cost, jnp.zeros(len(cost), jnp.int32))

    given = value, *apart(locations), weights, jnp.zeros((2, 3, 5))
    assert str(jax.make_jaxpr(program)(*given)).count("pallas_call") >= 2
    with kernels.without_kernels():
        assert "pallas_call" not in str(jax.make_jaxpr(lambda *same: program(*same))(*given))


def test_they_serve_on_such_gpus_only_and_not_what_is_written_down(monkeypatch):
    assert not kernels.kernels_serve()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for capability, serve in (("9.0", True), ("8.0", True), ("7.5", False), ("gfx942", False)):
        monkeypatch.setattr(
            jax, "devices", lambda capability=capability: [type("Gpu", (), {"compute_capability": capability})]
        )
        assert kernels.kernels_serve() == serve
    monkeypatch.setattr(jax, "devices", lambda: [type("Gpu", (), {"compute_capability": "9.0"})])
    with kernels.without_kernels():
        assert not kernels.kernels_serve()
    assert kernels.kernels_serve()
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert not kernels.kernels_serve()
