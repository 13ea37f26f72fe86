import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vitjax.classification.mixing import Mixing
from vitjax.structs import ClassTargets, Images
from vitjax.tasks.classification import Classification

BATCH, HEIGHT, WIDTH = 4, 12, 10
PIXELS = np.random.default_rng(0).normal(size=(BATCH, HEIGHT, WIDTH, 3)).astype(np.float32)
WHOLE = np.ones((BATCH, HEIGHT, WIDTH), bool)
LABELS = np.eye(BATCH, dtype=np.float32)


def mixed(mixing, draws=300, valid=WHOLE, labelled=(True,) * BATCH):
    """Pixels and probabilities of the same batch, mixed with many keys."""
    images = Images(jnp.asarray(PIXELS * valid[..., None]), jnp.asarray(valid))
    targets = ClassTargets(jnp.asarray(LABELS), jnp.array(labelled))
    keys = jax.random.split(jax.random.key(0), draws)
    out_images, out_targets = jax.jit(jax.vmap(lambda key: mixing(key, images, targets)))(keys)
    assert (out_images.valid == valid).all() and (out_targets.valid == jnp.array(labelled)).all()
    return np.asarray(out_images.pixels), np.asarray(out_targets.probabilities)


@pytest.fixture(scope="module")
def both():
    return mixed(Mixing(probability=0.8, cutmix_share=0.4))


def kinds(pixels):
    """Which draws left the batch alone, which cut it (every pixel is of one image), which blended it."""
    own, partner = (pixels == PIXELS).all(-1), (pixels == PIXELS[::-1]).all(-1)
    alone, cut = own.all((1, 2, 3)), (own | partner).all((1, 2, 3))
    return alone, cut & ~alone, ~cut


def test_every_draw_is_a_blend_or_a_cut_and_targets_say_how_much(both):
    alone, cut, blended = kinds(both[0])
    for pixels, probabilities in zip(both[0][blended], both[1][blended], strict=True):
        kept = probabilities[0, 0]
        np.testing.assert_allclose(pixels, kept * PIXELS + (1 - kept) * PIXELS[::-1], atol=1e-5)
    for pixels, probabilities in zip(both[0][cut], both[1][cut], strict=True):
        foreign = (pixels != PIXELS).any(-1)
        assert (foreign == foreign[0]).all()
        rows, columns = foreign[0].any(1), foreign[0].any(0)
        assert (foreign[0] == rows[:, None] & columns).all()
        assert all(np.abs(np.diff(np.flatnonzero(side))).max(initial=1) == 1 for side in (rows, columns))
        assert probabilities[0, 0] == pytest.approx(1 - foreign[0].mean(), abs=1e-6)
    kept = both[1][:, :1, :1]
    np.testing.assert_allclose(both[1], kept * LABELS + (1 - kept) * LABELS[::-1], atol=1e-6)
    assert (both[1][alone] == LABELS).all()


def test_both_kinds_come_about_as_often_as_said(both):
    _, cut, blended = kinds(both[0])
    # Of the batches to be cut, a few get a box without a pixel.
    assert cut.mean() == pytest.approx(0.8 * 0.4, abs=0.08)
    assert blended.mean() == pytest.approx(0.8 * 0.6, abs=0.08)


def test_the_share_kept_is_drawn_from_the_beta_distribution(both):
    kept = both[1][kinds(both[0])[2], 0, 0]
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert kept.mean() == pytest.approx(0.5, abs=0.08)
    assert kept.var() == pytest.approx(1 / (4 * 2.6), abs=0.02)


def test_without_mixup_batches_are_only_cut():
    assert not kinds(mixed(Mixing(mixup=0.0, cutmix_share=0.0), draws=50)[0])[2].any()


def test_without_cutmix_batches_are_only_blended_and_padding_and_invalid_partners_do_not_leak():
    valid = WHOLE.copy()
    valid[0, 6:] = False  # half of the first image; its partner is the last
    pixels, probabilities = mixed(Mixing(cutmix=0.0), draws=20, valid=valid, labelled=(True, False, True, True))
    assert (pixels[:, 0, 6:] == 0).all() and (pixels[:, 3, 6:] == PIXELS[3, 6:]).all()
    assert (pixels[:, 1:3] == PIXELS[1:3]).all() and (probabilities[:, 1:3] == LABELS[1:3]).all()
    kept = probabilities[:, 0, 0]
    assert kept.std() > 0.1
    blend = kept[:, None, None, None] * PIXELS[0, :6] + (1 - kept)[:, None, None, None] * PIXELS[3, :6]
    np.testing.assert_allclose(pixels[:, 0, :6], blend, atol=1e-5)
    np.testing.assert_allclose(1 - probabilities[:, 3, 3], (1 - kept) / 2, atol=1e-6)


def test_each_group_has_a_draw_of_its_own_and_partners_inside_it():
    pixels, probabilities = mixed(Mixing(group=2))
    swapped = [1, 0, 3, 2]
    kept = probabilities[:, [0, 2], [0, 2]]
    wanted = np.repeat(kept, 2, axis=1)[..., None]
    np.testing.assert_allclose(probabilities, wanted * LABELS + (1 - wanted) * LABELS[swapped], atol=1e-6)
    assert abs(np.corrcoef(kept.T)[0, 1]) < 0.2
    cut = ((pixels == PIXELS) | (pixels == PIXELS[swapped])).all((2, 3, 4))
    assert np.mean(cut[:, 0] != cut[:, 2]) == pytest.approx(0.5, abs=0.1) and (cut[:, 0] == cut[:, 1]).all()


def test_a_group_as_large_as_the_batch_or_larger_is_the_batch():
    for group in (BATCH, 2 * BATCH):
        for found, wanted in zip(mixed(Mixing(group=group), draws=5), mixed(Mixing(), draws=5), strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match=r"mixing.group must divide .*; got 3 and 4"):
        mixed(Mixing(group=3))
    with pytest.raises(ValueError, match=r"mixing.group must divide .*; got 3 and 16"):
        Classification(mixing=Mixing(group=3))


def test_probability_zero_gives_back_the_very_batch():
    images, targets = Images(jnp.asarray(PIXELS), jnp.asarray(WHOLE)), ClassTargets(LABELS, jnp.ones(BATCH, bool))
    out = Mixing(probability=0.0, mixup=0.0, cutmix=0.0)(jax.random.key(0), images, targets)
    assert out[0] is images and out[1] is targets


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mixup": -1.0}, r"mixup is the alpha .* got -1\.0"),
        ({"cutmix": float("nan")}, "cutmix is the alpha .* got nan"),
        ({"probability": 1.5}, r"probability is a share.* got 1\.5"),
        ({"cutmix_share": -0.5}, r"cutmix_share is a share.* got -0\.5"),
        ({"mixup": 0.0, "cutmix": 0.0}, "both 0"),
    ],
)
def test_senseless_numbers_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**fields)
