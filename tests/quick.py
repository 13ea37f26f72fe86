"""What keeps tests of models quick: variables drawn with NumPy."""

from typing import Any

import jax
import numpy as np


def drawn(shapes: Any, seed: int = 0) -> Any:
    """A tree of arrays of these shapes in which nothing is neutral: kernels keep the size of what goes through them,
    biases, means and scales are away from 0 and 1, variances are positive."""
    generator = np.random.default_rng(seed)

    def draw(path: tuple[Any, ...], leaf: Any) -> np.ndarray:
        noise = generator.normal(size=leaf.shape).astype(np.float32)
        name = path[-1].key
        if name == "kernel":
            return noise / np.float32(np.sqrt(np.prod(leaf.shape[:-1])))
        if name in ("query_embedding", "row", "column"):
            return noise
        if name == "var":
            return np.float32(0.5) + np.abs(noise)
        return np.float32(0.3) * noise + np.float32(name == "scale")

    return jax.tree_util.tree_map_with_path(draw, shapes)
