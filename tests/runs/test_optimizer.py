"""AdamW against the formula of torch in float64, schedules at their edges, and what is frozen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vitjax.runs.optimizer import AdamW, CosineSchedule, StepSchedule

SHAPES = {
    "backbone/stem/kernel": (3, 4),
    "backbone/stage_2/kernel": (4, 5),
    "backbone/stage_2/norm/scale": (5,),
    "decoder/sampling_offsets/bias": (6,),
    "decoder/query/kernel": (5, 6),
}
STAGED = AdamW(
    learning_rate=1e-2,
    weight_decay=0.5,
    clip_norm=0.1,
    multipliers={"sampling_offsets": 0.3, "^backbone/": 0.1, "bias": 7.0},
    frozen=("stem", "norm"),
    schedule=StepSchedule(drop_epochs=(2,)),
)
RATES = {"backbone/stage_2/kernel": 0.1, "decoder/sampling_offsets/bias": 0.3, "decoder/query/kernel": 1.0}


def drawn(seed, shapes=SHAPES):
    generator = np.random.default_rng(seed)
    return {path: generator.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


def nested(leaves):
    tree = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def by_path(tree):
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def torch_adamw(params, gradients, *, rate, decay, clip, b1=0.9, b2=0.999, eps=1e-8):
    """Float64 torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW; `rate(step, path)` is the learning rate."""
    params = {path: value.astype(np.float64) for path, value in params.items()}
    mean, square = ({path: np.zeros_like(value) for path, value in params.items()} for _ in range(2))
    for step, gradient in enumerate(gradients):
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient.values()))
        factor = min(1.0, clip / (norm + 1e-6))
        for path, p in params.items():
            g, lr = gradient[path] * factor, rate(step, path)
            p *= 1 - lr * decay
            mean[path] = b1 * mean[path] + (1 - b1) * g
            square[path] = b2 * square[path] + (1 - b2) * g**2
            corrected = np.sqrt(square[path] / (1 - b2 ** (step + 1))) + eps
            p -= lr * mean[path] / (1 - b1 ** (step + 1)) / corrected
    return params


def trained(optimizer, params, gradients, steps_per_epoch):
    trainable, frozen = optimizer.partition(params)
    transformation = optimizer.transformation(trainable, len(gradients), steps_per_epoch)

    @jax.jit
    def step(trainable, state, gradient):
        updates, state = transformation.update(gradient, state, trainable)
        return optax.apply_updates(trainable, updates), state

    state = transformation.init(trainable)
    for gradient in gradients:
        trainable, state = step(trainable, state, optimizer.partition(nested(gradient))[0])
    return optimizer.merge(trainable, frozen)


@pytest.mark.parametrize("size", [1.0, 1e-3, 0.02], ids="gradients={}".format)
def test_steps_equal_torch_in_float64(size):
    start = {path: value * 0.01 for path, value in drawn(0).items()}
    gradients = [{path: g * size for path, g in drawn(1 + step).items()} for step in range(6)]
    found = by_path(trained(STAGED, nested(start), gradients, steps_per_epoch=2))

    def rate(step, path):
        return 1e-2 * RATES[path] * (0.1 if step >= 4 else 1.0)

    subset = [{path: gradient[path] for path in RATES} for gradient in gradients]
    wanted = torch_adamw({path: start[path] for path in RATES}, subset, rate=rate, decay=0.5, clip=0.1)
    for path, value in wanted.items():
        moved, expected = np.asarray(found[path], np.float64) - start[path], value - start[path]
        np.testing.assert_allclose(moved, expected, atol=2e-6 * np.abs(expected).max(), rtol=0, err_msg=path)


def test_the_first_update_is_exact_to_float32():
    gradient = {"w": drawn(3)["decoder/query/kernel"]}
    optimizer = AdamW(learning_rate=1.0, weight_decay=0.0, clip_norm=None)
    params = jax.tree.map(np.zeros_like, gradient)
    transformation = optimizer.transformation(params, 10, 10)
    updates, _ = transformation.update(gradient, transformation.init(params), params)
    np.testing.assert_allclose(updates["w"], -np.sign(gradient["w"]), rtol=6e-7)


def test_frozen_parameters_stay_bitwise_and_have_no_optimizer_state():
    params = nested(drawn(0))
    after = by_path(trained(STAGED, params, [drawn(1)] * 3, steps_per_epoch=1))
    for path in SHAPES.keys() - RATES.keys():
        assert after[path] is by_path(params)[path]
    trainable, frozen = STAGED.partition(params)
    state = STAGED.transformation(trainable, 3, 1).init(trainable)
    assert by_path(trainable).keys() == RATES.keys()
    assert not any("stem" in path or "norm" in path for path in by_path(state))
    assert by_path(STAGED.merge(trainable, frozen)).keys() == SHAPES.keys()


def test_gradients_of_frozen_parameters_do_not_count_in_the_clip_norm():
    small = {path: np.full(shape, 1e-4, np.float32) for path, shape in SHAPES.items()}
    loud = small | {"backbone/stem/kernel": np.full((3, 4), 1e6, np.float32)}
    found = [by_path(trained(STAGED, nested(drawn(0)), [gradient], 1)) for gradient in (small, loud)]
    for path in RATES:
        np.testing.assert_array_equal(found[0][path], found[1][path])


def test_a_multiplier_of_zero_freezes():
    optimizer = dataclasses.replace(STAGED, multipliers={"^backbone/": 0.0}, frozen=())
    trainable, frozen = optimizer.partition(nested(drawn(0)))
    assert by_path(trainable).keys() == {"decoder/sampling_offsets/bias", "decoder/query/kernel"}
    assert set(frozen) == {"backbone"}


def test_parts_are_arguments_of_jit_and_only_the_trainable_one_has_gradients():
    params = nested({path: jnp.asarray(value) for path, value in drawn(0).items()})

    def loss(trainable, frozen):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(STAGED.merge(trainable, frozen)))

    value, gradient = jax.jit(jax.value_and_grad(loss))(*STAGED.partition(params))
    assert np.isfinite(value)
    assert by_path(gradient).keys() == RATES.keys()


def test_the_clip_leaves_small_gradients_as_they_are():
    params = {"w": np.zeros(4, np.float32)}
    transformation = AdamW(clip_norm=0.1).transformation(params, 10, 10)
    gradient = {"w": np.full(4, 0.01, np.float32)}
    _, state = transformation.update(gradient, transformation.init(params), params)
    np.testing.assert_allclose(optax.tree.get(state, "mu")["w"], 0.001, rtol=1e-6)


def test_step_schedule_drops_at_the_beginning_of_the_epoch():
    schedule = StepSchedule(drop_epochs=(2, 3.5), factor=0.1)
    assert schedule.drops(10) == (20, 35) and CosineSchedule().drops(10) == ()
    scale = jax.jit(schedule.scale(50, 10))
    found = [float(scale(step)) for step in (0, 19, 20, 34, 35, 1000)]
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


def test_step_schedule_warms_up_linearly_and_keeps_its_drops():
    scale = StepSchedule(drop_epochs=(1,), warmup_steps=4, warmup_start=0.2).scale(8, 3)
    found = [float(scale(step)) for step in range(6)]
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.08, 0.1, 0.1], rtol=1e-6)


def test_a_schedule_without_drops_is_constant():
    scale = StepSchedule(drop_epochs=()).scale(8, 3)
    assert [float(scale(step)) for step in (0, 7)] == [1, 1]


def test_cosine_schedule_goes_from_one_to_final():
    scale = jax.jit(CosineSchedule(final=0.1).scale(100, 10))
    found = [float(scale(step)) for step in (0, 50, 100, 150)]
    np.testing.assert_allclose(found, [1, 0.55, 0.1, 0.1], atol=1e-6)


def test_cosine_schedule_warms_up_to_the_whole_rate_and_then_joins_the_cosine():
    scale = CosineSchedule(warmup_steps=10, warmup_start=0.001).scale(100, 10)
    found = [float(scale(step)) for step in (0, 5, 9, 10)]
    np.testing.assert_allclose(found, [0.001, 0.5005, 0.9001, 0.5 * (1 + np.cos(np.pi / 10))], rtol=1e-6)


def test_warm_up_may_be_told_in_epochs():
    steps, epochs = (CosineSchedule(warmup_start=0.001, **told).scale(100, 10)
                     for told in ({"warmup_steps": 20}, {"warmup_epochs": 1.5, "warmup_steps": 5}))  # fmt: skip
    assert [float(epochs(step)) for step in (0, 7, 19, 20, 60)] == [float(steps(step)) for step in (0, 7, 19, 20, 60)]


def test_the_learning_rate_follows_the_batch_size_it_is_told_for():
    published = AdamW(learning_rate=5e-4, reference_batch_size=512)
    assert published.for_batch_size(1024) == AdamW(learning_rate=1e-3)
    assert AdamW(learning_rate=5e-4).for_batch_size(1024) == AdamW(learning_rate=5e-4)
    with pytest.raises(ValueError, match="reference_batch_size must be a whole number, at least 1, or None; got 0"):
        AdamW(reference_batch_size=0)


def test_the_logged_learning_rate_is_the_one_of_the_update():
    optimizer = dataclasses.replace(STAGED, weight_decay=0.0, multipliers={}, frozen=())
    rates = optimizer.learning_rates(4, 1)
    params = nested(drawn(0))
    gradients = [{path: np.ones(shape, np.float32) for path, shape in SHAPES.items()}] * 4
    before, after = (by_path(trained(optimizer, params, gradients[:count], 1)) for count in (2, 3))
    moved = np.abs(after["decoder/query/kernel"] - before["decoder/query/kernel"])
    np.testing.assert_allclose(moved, float(rates(2)), rtol=1e-3)
    assert float(rates(jnp.int32(2))) == pytest.approx(1e-3)


@pytest.mark.parametrize(
    "change, nearest",
    [({"frozen": ("backbone/steam",)}, "backbone/stem"), ({"multipliers": {"^bakcbone/": 0.1}}, "backbone")],
    ids=["frozen", "multipliers"],
)
def test_a_mistyped_pattern_is_an_error_that_lists_near_names(change, nearest):
    with pytest.raises(ValueError, match=f"matches no parameter.*{nearest}"):
        dataclasses.replace(STAGED, **change).partition(nested(drawn(0)))


def test_a_pattern_like_nothing_lists_the_topmost_names():
    with pytest.raises(ValueError, match="backbone, decoder"):
        AdamW(frozen=("xyzzy",)).partition(nested(drawn(0)))


def test_freezing_everything_is_an_error():
    with pytest.raises(ValueError, match="all 5 parameters are frozen"):
        AdamW(frozen=("",)).partition(nested(drawn(0)))


def test_a_parameter_in_both_parts_is_an_error():
    with pytest.raises(ValueError, match="decoder/query/kernel"):
        AdamW.merge(nested(drawn(0)), {"decoder": {"query": {"kernel": 0}}})


@pytest.mark.parametrize("change", [{"frozen": ("[",)}, {"multipliers": {"a": -1.0}}, {"multipliers": {"a": np.nan}}])
def test_bad_patterns_and_multipliers_are_refused_by_name(change):
    with pytest.raises(ValueError, match=r"'\['|'a'"):
        AdamW(**change)


def test_biases_and_norms_can_be_left_without_decay():
    optimizer = AdamW(learning_rate=0.1, weight_decay=0.5, clip_norm=None, schedule=StepSchedule(drop_epochs=()))
    params = nested(drawn(0))
    still = [{path: np.zeros(shape, np.float32) for path, shape in SHAPES.items()}]
    every, kernels = (
        by_path(trained(dataclasses.replace(optimizer, decay_vectors=vectors), params, still, 1))
        for vectors in (True, False)
    )
    for path, before in drawn(0).items():
        np.testing.assert_allclose(every[path], 0.95 * before, rtol=1e-6)
        np.testing.assert_allclose(kernels[path], before if before.ndim == 1 else 0.95 * before, rtol=1e-6)


def test_experiments_that_hold_it_can_be_hashed():
    assert hash(AdamW(multipliers={"a": 0.1})) == hash(AdamW(multipliers={"a": 0.1}))
