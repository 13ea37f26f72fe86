"""The kernels for GPUs, by the interpreter that Pallas has for CPUs."""

import contextlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ops.test_sampling import STRANGE, apart, assert_close, drawn, oracle, together

from vitjax.ops import kernels
from vitjax.ops.assignment import linear_assignment
from vitjax.ops.sampling import sampling_at

triton = pytest.importorskip("jax.experimental.pallas.triton")
from jax.experimental import pallas as pl  # noqa: E402

from vitjax.ops.kernels.assignment import assigned  # noqa: E402
from vitjax.ops.kernels.sampling import backward, forward, sampled, sampled_gradients  # noqa: E402

SHAPES = ((5, 7), (3, 4), (1, 1))

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
        (SHAPES, {}),
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
    found = computed(SHAPES, 16, value, locations, weights, cotangent)
    assert [array.dtype for array in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32, jnp.float32]
    for one, other in zip(found, oracle(SHAPES, value, locations, weights, cotangent), strict=True):
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


def inner_operations(lowered):
    """The lines of what a lowered program hands to Triton."""
    ir = pytest.importorskip("jax.interpreters.mlir").ir
    dialect = pytest.importorskip("jaxlib.triton.dialect")
    for block in lowered.compiler_ir().body.operations:
        for operation in block.regions[0].blocks[0].operations:
            if "mhlo.backend_config" in operation.attributes:
                code = ir.DictAttr(operation.attributes["mhlo.backend_config"])["ir"].value_bytes
                with ir.Context() as context:
                    dialect.register_dialect(context)
                    yield from str(ir.Module.parse(code)).splitlines()


def test_sums_of_gradients_wait_for_nothing(monkeypatch):
    """A fence before each of them takes longer than they do. The sums of others keep their order."""
    monkeypatch.undo()
    with contextlib.suppress(ImportError):
        from jax._src.pallas.triton import gpu_info  # of this machine, which has none

        monkeypatch.setattr(gpu_info, "get_gpu_info", lambda: gpu_info._get_gpu_info_impl(gpu_info.GpuVersion.H100))

    def others(ref, _, out_ref):
        triton.atomic_add(out_ref, (jnp.arange(16),), ref[...])

    ordered = pl.pallas_call(
        others,
        out_shape=jax.ShapeDtypeStruct((16,), jnp.float32),
        input_output_aliases={1: 0},
        compiler_params=triton.CompilerParams(),
    )
    value, locations, weights, cotangent = drawn(0)
    given = [jnp.asarray(array) for array in (value, *apart(locations), weights, cotangent)]
    orders = {}
    for name, call, inputs in (
        ("ours", partial(backward, SHAPES), given),
        ("others", ordered, [jnp.zeros(16)] * 2),
    ):
        lines = inner_operations(jax.jit(call).trace(*inputs).lower(lowering_platforms=("cuda",)))
        orders[name] = {"acq_rel" in line for line in lines if "tt.atomic_rmw" in line}
    assert orders == {"ours": {False}, "others": {True}}


@pytest.fixture
def on_cpu(monkeypatch):
    """Sampling with its kernels interpreted, in programs as they are on a GPU."""
    for name, part in (("forward", forward), ("backward", backward)):
        monkeypatch.setattr(kernels.sampling, name, partial(part, rows=8, interpret=True))
    return tuple(
        lambda *given, part=part: jax.lax.platform_dependent(*given, default=partial(part, SHAPES))
        for part in (sampled, sampled_gradients)
    )


def test_devices_sample_their_own_images(on_cpu):
    """XLA knows nothing of a kernel, and left to itself would send every device all images."""
    first, then = on_cpu
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    value, locations, weights, cotangent = drawn(0)
    inputs = value, *apart(locations), weights, cotangent
    placed = [jax.device_put(array, NamedSharding(mesh, PartitionSpec("data"))) for array in inputs]
    program = jax.jit(lambda *given: (first(*given[:-1]), *then(*given))).lower(*placed).compile()
    assert not any(word in program.as_text() for word in ("all-gather", "all-reduce", "all-to-all"))
    out, by_value, by_x, by_y, by_weights = program(*placed)
    found = out, by_value, np.stack([by_x, by_y], -1), by_weights
    assert_close(found, oracle(SHAPES, value, locations, weights, cotangent))


def test_a_mapped_function_is_sampled_as_a_larger_batch(on_cpu):
    first, then = on_cpu
    value, locations, weights, cotangent = map(jnp.asarray, drawn(0))
    inputs = value, *apart(locations), weights[:1], cotangent
    given = [array if len(array) == 1 else array[:, None] for array in inputs]
    axes = [None if len(array) == 1 else 0 for array in inputs]
    out = jax.vmap(first, axes[:-1])(*given[:-1])
    by_value, by_x, by_y, by_weights = jax.vmap(then, axes)(*given)
    found = out, by_value, jnp.stack([by_x, by_y], -1), by_weights
    wanted = oracle(SHAPES, value, locations, jnp.repeat(weights[:1], 2, 0), cotangent)
    assert_close([array[:, 0] for array in found], wanted)


@pytest.fixture
def gpu(monkeypatch):
    """What our code finds of JAX's devices: one with this name and capability."""

    def be(kind="NVIDIA H100", capability="9.0"):
        device = type("Gpu", (), {"device_kind": kind, "compute_capability": capability})
        monkeypatch.setattr(jax, "devices", lambda: [device])

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    be()
    return be


def sums(value, x, y, weights):
    return sampling_at(value, SHAPES, x, y, weights).sum()


def matched(cost):
    return jax.vmap(linear_assignment)(cost, jnp.zeros(len(cost), jnp.int32))


def test_on_a_gpu_they_are_in_programs_and_their_gradients(gpu):
    value, locations, weights, _ = map(jnp.asarray, drawn(0))
    given = value, *apart(locations), weights
    forwards = str(jax.make_jaxpr(sums)(*given)).count("pallas_call[")
    both = str(jax.make_jaxpr(jax.value_and_grad(sums, (0, 1, 2, 3)))(*given)).count("pallas_call[")
    assert both > forwards > 0
    assert "pallas_call[" in str(jax.make_jaxpr(matched)(jnp.zeros((2, 3, 5))))
    assert "pallas_call[" not in str(jax.make_jaxpr(matched)(jnp.zeros((2, 3, 5_000))))


def test_what_is_written_down_has_none_and_takes_any_batch(gpu):
    value, locations, weights, _ = drawn(0)
    given = value, *apart(locations), weights
    (batch,) = jax.export.symbolic_shape("b")
    specs = [jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in given]
    with kernels.without_kernels():
        written = jax.export.export(jax.jit(sums), platforms=("cpu", "cuda", "tpu"))(*specs)
    np.testing.assert_allclose(jax.jit(written.call)(*given), sums(*map(jnp.asarray, given)), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "capability", "serve"),
    [("NVIDIA A100", "8.0", True), ("Tesla T4", "7.5", False), ("NVIDIA V", "7.0", False), ("gfx942", "gfx942", False)],
)
def test_they_serve_on_some_gpus(gpu, kind, capability, serve):
    gpu(kind, capability)
    assert kernels.kernels_serve() == serve


def test_they_serve_nobody_who_leaves_them_out(gpu, monkeypatch):
    assert kernels.kernels_serve()
    with kernels.without_kernels():
        assert not kernels.kernels_serve()
    with monkeypatch.context() as patch:
        patch.setenv("VITJAX_KERNELS", "0")
        assert not kernels.kernels_serve()
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert not kernels.kernels_serve()


def test_they_serve_nobody_on_a_cpu():
    assert not kernels.kernels_serve()


@pytest.mark.parametrize(
    ("value", "weights", "fits"),
    [
        ((2, 48, 2, 3), (2, 3, 2, 3, 2), True),
        ((2, 48, 2, 3), (2, 0, 2, 3, 2), False),
        ((2, 2**20, 8, 128), (2, 3, 8, 3, 2), False),
        ((2, 48, 8, 256), (2, 2**20, 8, 1, 1), False),  # of the result
    ],
)
def test_numbers_are_counted_in_32_bits(value, weights, fits):
    assert kernels.fit(value, weights) == fits
