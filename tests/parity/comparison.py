"""Comparing arrays with a golden case, at the tolerance in its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .golden import Case, GoldenError


@dataclass(frozen=True)
class Results:
    """What a runner computed, in the official layout and under the official names.

    `padding` gives, for arrays that a manifest may list in `zeroed_at_padding`, a mask that is True on padding.
    """

    values: Mapping[str, np.ndarray]
    padding: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """How one array compares: error over tolerance (above 1 fails), and what is wrong in words."""

    name: str
    ratio: float
    problem: str = ""


def compare(case: Case, results: Results) -> list[Row]:
    """One row for every array of the manifest; what the runner did not compute is a problem, too."""
    return [_row(case, results, name) for name in case.outputs]


def _row(case: Case, results: Results, name: str) -> Row:
    if f"out.{name}" not in case.settings["arrays"] or name not in results.values:
        return Row(name, np.inf, "the runner does not understand this array")
    expected, wanted = case.settings["arrays"][f"out.{name}"], case.stored[f"out.{name}"]
    value = np.asarray(results.values[name])
    if list(value.shape) != expected["shape"]:
        return Row(name, np.inf, f"shape {list(value.shape)}, expected {expected['shape']}")
    if f"out.{name}" in case.settings.get("zeroed_at_padding", []):
        if name not in results.padding:
            return Row(name, np.inf, "zeroed at padding, and the runner does not know its padding")
        value = np.where(results.padding[name], 0, value)
    whole = value
    if expected["stored"] == "subsample":
        value = value.ravel()[:: expected["stride"]]
    if "atol" not in expected:
        return _discrete(name, value, wanted, expected)
    return _measured(name, value, wanted, whole, expected)


def _discrete(name: str, value: np.ndarray, wanted: np.ndarray, expected: Mapping) -> Row:
    """Exact, but for as many entries as differ between the official float32 and float64 runs themselves."""
    differing, allowed = int((value != wanted).sum()), expected.get("f64_mismatch", 0)
    if differing <= allowed:
        return Row(name, 0.0)
    return Row(name, np.inf, f"{differing} of {value.size} entries differ (float64 itself differs in {allowed})")


def _measured(name: str, value: np.ndarray, wanted: np.ndarray, whole: np.ndarray, expected: Mapping) -> Row:
    """Largest and rms error, or the error of each entry; of a subsample, the statistics of the whole array too."""
    error = np.abs(value.astype(np.float64) - wanted)
    if error.size == 0:
        return Row(name, 0.0)
    if "atol_each" in expected:
        ratio = _over(error, np.array(expected["atol_each"]))
        return Row(name, ratio, _words(ratio, error, expected))
    ratio = max(_over(error, expected["atol"]), _over(np.sqrt((error**2).mean()), expected["rms_tol"]))
    if expected["stored"] == "subsample":
        statistics = {"mean": whole.mean(dtype=np.float64), "min": whole.min(), "max": whole.max()}
        ratio = max(ratio, *(_over(abs(seen - expected[key]), expected["atol"]) for key, seen in statistics.items()))
    return Row(name, ratio, _words(ratio, error, expected))


def _over(error: np.ndarray, tolerance: np.ndarray) -> float:
    """The largest error in units of its tolerance; infinite where it is not a number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0, np.asarray(error) / tolerance)
    return float(np.nan_to_num(ratio, nan=np.inf, posinf=np.inf).max())


def _words(ratio: float, error: np.ndarray, expected: Mapping) -> str:
    if ratio <= 1:
        return ""
    return f"largest error {error.max():.3g} (tolerance {expected['atol']:.3g}): {ratio:.3g} times what is allowed"


def require_equal(case: Case, rows: list[Row]) -> None:
    """Raises a GoldenError that lists every array that is not reproduced."""
    wrong = [f"  {row.name}: {row.problem}" for row in rows if row.ratio > 1]
    if wrong:
        unread = [f"config.{key}" for key in case.config.unread()] + case.settings.unread()
        hint = f"\nin the manifest and not read by the runner: {', '.join(unread)}" if unread else ""
        raise GoldenError(f"{case.id}: {len(wrong)} of {len(rows)} arrays\n" + "\n".join(wrong) + hint)
