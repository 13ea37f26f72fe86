"""The mask head and its losses once more, in float64 and by other means: sums of shifted maps, one query at a time.

Written from section 4.4 of Carion et al. 2020 and the published shapes; nothing of vitjax is used.
"""

import jax
import jax.numpy as jnp
import numpy as np


def losses(params, queries, memory, projected, finer, truth):
    """(focal, dice) of one query of one image: (c,), (h, w, c) twice, maps coarsest first, truth (H, W)."""
    maps = attention(params["mask_attention"], queries, memory)
    logits = head(params["mask_head"], projected, maps, finer)
    logits = enlarged(enlarged(logits, truth.shape[0]).T, truth.shape[1]).T
    p = 1 / (1 + jnp.exp(-logits))
    surprise = -jnp.where(truth, jnp.log(p), jnp.log(1 - p))
    missing = jnp.where(truth, 1 - p, p)
    focal = (jnp.where(truth, 0.25, 0.75) * missing**2 * surprise).mean()
    return focal, 1 - (2 * (p * truth).sum() + 1) / (p.sum() + truth.sum() + 1)


def attention(params, query, memory, heads=8):
    q = query @ params["query"]["kernel"] + params["query"]["bias"]
    k = memory @ params["key"]["kernel"] + params["key"]["bias"]
    size = len(q) // heads
    scores = [k[..., i * size : (i + 1) * size] @ q[i * size : (i + 1) * size] / np.sqrt(size) for i in range(heads)]
    powers = jnp.exp(jnp.stack(scores, -1) - jnp.stack(scores).max())
    return powers / powers.sum()


def head(params, projected, maps, finer):
    y = jnp.concatenate([projected, maps], -1)
    for number in (1, 2):
        y = block(params, number, y)
    for level, feature in enumerate(finer, start=1):
        rows, columns = (np.arange(new) * old // new for old, new in zip(y.shape, feature.shape[:2], strict=False))
        adapter = params[f"adapter_{level}"]
        y = y[rows][:, columns] + feature @ adapter["kernel"][0, 0] + adapter["bias"]
        y = block(params, level + 2, y)
    return convolved(params["out"], y)[..., 0]


def block(params, number, x):
    x, norm = convolved(params[f"conv_{number}"], x), params[f"norm_{number}"]
    grouped = x.reshape(*x.shape[:2], 8, -1)
    centred = grouped - grouped.mean((0, 1, 3), keepdims=True)
    scaled = centred / jnp.sqrt((centred**2).mean((0, 1, 3), keepdims=True) + 1e-5)
    return jnp.maximum(scaled.reshape(x.shape) * norm["scale"] + norm["bias"], 0)


def convolved(params, x):
    height, width, _ = x.shape
    room = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = (room[i : i + height, j : j + width] @ params["kernel"][i, j] for i in range(3) for j in range(3))
    return sum(shifted) + params["bias"]


def enlarged(x, length):
    """Rows at pixel centres; a matrix of hats."""
    centres = np.clip((np.arange(length) + 0.5) * len(x) / length - 0.5, 0, len(x) - 1)
    hats = np.maximum(1 - np.abs(centres[:, None] - np.arange(len(x))), 0)
    return hats @ x


def trajectory(params, images, steps, *, rate, clip, count):
    """(focal, dice, gradient norm) of every step of AdamW; `images` are queries and truth of objects, and the maps."""

    def total(params):
        each = jax.vmap(losses, in_axes=(None, 0, None, None, None, 0))
        found = [each(params, queries, *maps, truth) for queries, truth, *maps in images]
        focal, dice = (sum(one.sum() for one in both) / count for both in zip(*found, strict=True))
        return focal + dice, (focal, dice)

    gradient_of = jax.jit(jax.value_and_grad(total, has_aux=True))
    first, second = (jax.tree.map(np.zeros_like, params) for _ in range(2))
    told = []
    for step in range(1, steps + 1):
        (_, (focal, dice)), gradient = gradient_of(params)
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        told.append((float(focal), float(dice), float(norm)))
        gradient = jax.tree.map(lambda g, n=norm: g * min(1, clip / (n + 1e-6)), gradient)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
        size = rate / (1 - 0.9**step)
        params = jax.tree.map(
            lambda p, m, v, s=size, t=step: p * (1 - rate * 1e-4) - s * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-8),
            params,
            first,
            second,
        )
    return np.array(told)
