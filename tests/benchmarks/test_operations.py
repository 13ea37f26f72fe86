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
        (
            lambda a, b: jax.lax.platform_dependent(a, b, cpu=jnp.matmul, default=jnp.dot),
            [(2, 3), (3, 4)],
            2 * 2 * 3 * 4,
        ),
        (lambda a, b: a + b, [(2, 2), (2, 2)], 0),
    ],
)
def test_operations_of_products_and_convolutions_are_counted(function, shapes, expected) -> None:
    assert products(jax.make_jaxpr(function)(*map(jnp.zeros, shapes))) == expected
