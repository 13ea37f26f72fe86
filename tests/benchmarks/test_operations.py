import jax
import jax.numpy as jnp
import pytest

from benchmarks.operations import products


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda a, b: jnp.einsum("nij,njk->nik", a, b) + 1, [(5, 2, 3), (5, 3, 4)], 2 * 5 * 2 * 3 * 4),
        (jax.jit(lambda a, b: jnp.tanh(a @ b)), [(2, 3), (3, 4)], 2 * 2 * 3 * 4),
        (lambda a, b: jax.lax.scan(lambda x, _: (x @ b, None), a, None, length=7)[0], [(2, 3), (3, 3)], 7 * 2 * 2 * 9),
        (lambda a, b: jax.lax.conv(a, b, (1, 1), "VALID"), [(1, 3, 8, 8), (4, 3, 3, 3)], 2 * 4 * 36 * 27),
        (lambda a, b: jax.lax.cond(a[0, 0] > 0, jnp.add, jnp.matmul, a, b), [(3, 3), (3, 3)], 2 * 27),
        (lambda a, b: a + b, [(2, 2), (2, 2)], 0),
    ],
)
def test_operations_of_products_and_convolutions_are_counted(function, shapes, expected) -> None:
    assert products(jax.make_jaxpr(function)(*map(jnp.zeros, shapes))) == expected


@pytest.mark.parametrize(("platform", "times"), [("cpu", 2), ("cuda", 3), ("rocm", 3), ("tpu", 1), ("", 1)])
def test_of_forms_for_platforms_one_is_counted(platform, times) -> None:
    def repeated(times):
        return lambda a: jax.lax.fori_loop(0, times, lambda _, x: x @ a, a)

    forms = {"cpu": repeated(2), "cuda": repeated(3), "rocm": repeated(3), "default": repeated(1)}
    traced = jax.make_jaxpr(lambda a: jax.lax.platform_dependent(a, **forms))(jnp.zeros((2, 2)))
    assert products(traced, platform) == times * 2 * 8
