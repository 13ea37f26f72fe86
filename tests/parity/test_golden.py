import json

import numpy as np
import pytest

from .comparison import Results, compare, require_equal
from .families import run
from .golden import Case, GoldenError, draw, drawn_weights, find_cases, image

ATOL = {"atol": 1e-3, "rms_tol": 1e-3, "stored": "full"}


def write_case(folder, arrays, stored, **case):
    """A golden folder with one model of one case."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"config": {}, "cases": {"a": {"arrays": arrays, **case}}}))
    np.savez(folder / "a.npz", **stored)
    return Case(folder.parent, folder, "a")


@pytest.mark.parametrize(
    ("name", "shape", "first", "total"),
    [
        ("query_embed.weight", (100, 256), (0.80733836, -1.8398789, 0.18836357), 20471.4845),
        ("backbone.0.body.conv1.weight", (64, 3, 7, 7), (-0.01591512, 0.055284195, -0.044136256), 1062.77508),
        (
            "transformer.encoder.layers.0.self_attn.in_proj_weight",
            (768, 256),
            (0.059371904, 0.044689059, -0.076176293),
            16316.8802,
        ),
        ("backbone.0.body.bn1.running_var", (64,), (1.1129164, 1.0593474, 1.0786169), 69.0220171),
        ("class_embed.bias", (92,), (-2.1122651, -2.6347868, -2.1170497), 182.165099),
    ],
)
def test_weights_are_drawn_as_published(name, shape, first, total):
    weight = draw(name, shape)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight.ravel()[:3], first, rtol=1e-6)
    np.testing.assert_allclose(np.abs(weight, dtype=np.float64).sum(), total, rtol=1e-8)


def test_images_are_drawn_as_published():
    pixels = image("input/detr_r50/pad_192x256/0", 192, 256)
    np.testing.assert_allclose(pixels.ravel()[:3], (0.25091401, 0.43351403, 0.31229201), rtol=1e-6)
    np.testing.assert_allclose(np.abs(pixels, dtype=np.float64).sum(), 112883.157, rtol=1e-8)


def test_weights_with_another_checksum_are_refused(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(
        json.dumps({"state_dict": [["fc.bias", [3], "float32"]], "weights_sha256": "0", "weights_abs_sum": 9})
    )
    with pytest.raises(GoldenError, match="another checksum"):
        drawn_weights(path, None)


def test_a_batch_is_padded_at_the_bottom_and_the_right(tmp_path):
    case = write_case(tmp_path / "detr", {}, {}, image_sizes=[[8, 5], [6, 9]], image_prefix="input/x")
    images = case.images()
    assert images.pixels.shape == (2, 8, 9, 3)
    np.testing.assert_array_equal(images.pixels[1, :6, :9], image("input/x/1", 6, 9).transpose(1, 2, 0))
    assert not images.pixels[1, 6:].any() and not images.pixels[0, :, 5:].any()
    assert images.valid.sum() == 8 * 5 + 6 * 9


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.float32([1, 2, 3.0005]), None),
        (np.float32([1, 2, 3.5]), "largest error 0.5"),
        (np.float32([1, 2, np.nan]), "largest error nan"),
        (np.float32([[1, 2, 3]]), "shape"),
    ],
    ids=["within the tolerance", "beyond the tolerance", "not a number", "another shape"],
)
def test_an_array_is_held_to_its_tolerance(tmp_path, value, problem):
    stored = {"out.y": np.float32([1, 2, 3])}
    case = write_case(tmp_path / "detr", {"out.y": {"shape": [3], **ATOL}}, stored)
    rows = compare(case, Results({"y": value}))
    if problem is None:
        require_equal(case, rows)
    else:
        with pytest.raises(GoldenError, match=f"y: {problem}"):
            require_equal(case, rows)


def test_a_tolerance_of_each_entry_counts_for_that_entry(tmp_path):
    arrays = {"out.y": {"shape": [2], "atol_each": [1e-5, 1], **ATOL}}
    case = write_case(tmp_path / "detr", arrays, {"out.y": np.zeros(2)})
    assert compare(case, Results({"y": np.array([0, 0.5])}))[0].ratio == 0.5
    assert compare(case, Results({"y": np.array([1e-4, 0])}))[0].ratio > 1


def test_of_a_subsample_the_whole_array_is_looked_at(tmp_path):
    arrays = {"out.y": {"shape": [4], "stride": 2, "mean": 1, "min": 1, "max": 1, **ATOL, "stored": "subsample"}}
    case = write_case(tmp_path / "detr", arrays, {"out.y": np.ones(2)})
    assert compare(case, Results({"y": np.ones(4)}))[0].ratio == 0
    assert compare(case, Results({"y": np.array([1.0, 7, 1, 1])}))[0].ratio > 1


def test_discrete_arrays_are_exact(tmp_path):
    case = write_case(tmp_path / "detr", {"out.m": {"shape": [2], "stored": "full"}}, {"out.m": np.array([0, 1])})
    assert compare(case, Results({"m": np.array([0, 1])}))[0].ratio == 0
    assert "1 of 2 entries differ" in compare(case, Results({"m": np.array([1, 1])}))[0].problem


def test_what_official_code_leaves_undefined_on_padding_is_zeroed(tmp_path):
    arrays = {"out.y": {"shape": [2], **ATOL}}
    case = write_case(tmp_path / "detr", arrays, {"out.y": np.array([1, 0])}, zeroed_at_padding=["out.y"])
    padding = {"y": np.array([False, True])}
    assert compare(case, Results({"y": np.array([1, 99.0])}, padding))[0].ratio == 0
    assert "does not know its padding" in compare(case, Results({"y": np.array([1, 99.0])}))[0].problem


def test_an_array_and_a_setting_that_the_runner_does_not_know_are_named(tmp_path):
    arrays = {"out.y": {"shape": [1], **ATOL}, "out.novel": {"shape": [1], **ATOL}}
    case = write_case(tmp_path / "detr", arrays, {"out.y": np.ones(1), "out.novel": np.ones(1)}, wobble=3)
    with pytest.raises(GoldenError, match=r"1 of 2 arrays\n  novel: the runner does not understand") as error:
        require_equal(case, compare(case, Results({"y": np.ones(1)})))
    assert "not read by the runner: wobble" in str(error.value)


def test_a_case_that_no_runner_knows_is_an_error_and_not_left_out(tmp_path):
    write_case(tmp_path / "zoo" / "a_model_nobody_knows", {}, {})
    (case,) = find_cases(tmp_path)
    with pytest.raises(GoldenError, match="zoo/a_model_nobody_knows/a: no runner"):
        run(case)


@pytest.mark.parametrize("unknown", [{"group_type": "linear"}, {"use_cpe": True}, {"pad_type": 2}], ids=str)
def test_a_crossformer_with_parts_that_the_project_does_not_have_fails(tmp_path, unknown):
    case = write_case(tmp_path / "crossformer_small", {}, {})
    case.config.update(
        {"depths": [1], "merge_size": [[2, 4]], "group_size": [7], "embed_dim": 8, "num_heads": [1]} | unknown
    )
    case.config.update({"crs_interval": [1], "patch_size": [4], "img_size": 32, "num_classes": 2})
    with pytest.raises(GoldenError, match=next(iter(unknown))):
        run(case)


def test_a_case_of_no_known_family_fails(tmp_path):
    write_case(tmp_path / "a_model_nobody_knows", {}, {})
    (case,) = find_cases(tmp_path)
    with pytest.raises(GoldenError, match="a_model_nobody_knows/a: no runner"):
        run(case)


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(GoldenError, match=r"no manifest\.json below"):
        list(find_cases(tmp_path))
