"""`pytest tests/parity --golden DIR` makes one item of every case of a golden folder.

`pytest` of everything takes the folders that the environment variable VITJAX_GOLDEN lists, divided as in PATH.
"""

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import pytest
from jax._src import compiler  # no public name sets a flag for what is compiled from now on

from .families import KEY_LISTS, ZOO_LISTS
from .golden import find_cases, find_key_lists, model_and_case

SMALL = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption(
        "--golden",
        action="append",
        type=Path,
        help="golden folder to check instead of the small one inside tests/parity; may be given several times",
    )


def golden_folders(config) -> list[Path]:
    listed = [Path(folder) for folder in os.environ.get("VITJAX_GOLDEN", "").split(os.pathsep) if folder]
    return config.getoption("--golden", default=None) or listed or [SMALL]


def pytest_generate_tests(metafunc):
    roots = golden_folders(metafunc.config)
    if "golden_case" in metafunc.fixturenames:
        cases = [case for root in roots for case in find_cases(root)]
        metafunc.parametrize("golden_case", cases, ids=[case.id for case in cases])
    for fixture, pattern in (("key_list", KEY_LISTS), ("zoo_list", ZOO_LISTS)):
        if fixture in metafunc.fixturenames:
            lists = [path for root in roots for path in find_key_lists(root) if pattern.fullmatch(path.stem)]
            metafunc.parametrize(fixture, lists, ids=[path.stem for path in lists])


@pytest.fixture(autouse=True)
def as_users_compile(monkeypatch):
    """What tests/conftest.py does for quick compilation is undone: rounding here is that of the product."""
    jax.config.update("jax_disable_most_optimizations", False)
    if "--xla_cpu_use_fusion_emitters=false" in os.environ.get("XLA_FLAGS", ""):
        options = compiler.get_compile_options

        def as_users(*given: Any, env_options_overrides: Any = None, **named: Any) -> Any:
            overrides = {"xla_cpu_use_fusion_emitters": True, **(env_options_overrides or {})}
            return options(*given, env_options_overrides=overrides, **named)

        monkeypatch.setattr(compiler, "get_compile_options", as_users)
    with jax.default_matmul_precision("highest"):
        yield
    jax.config.update("jax_disable_most_optimizations", True)


def pytest_terminal_summary(terminalreporter, config):
    worst = defaultdict(list)
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, (case, array, ratio) in report.user_properties:
            if key == "golden":
                worst[model_and_case(case)[0]].append((ratio, f"{model_and_case(case)[1]}: {array}"))
    if not worst:
        return
    terminalreporter.section("golden cases: largest error, 1 is the tolerance")
    for model, entries in worst.items():
        ratio, where = max(entries)
        terminalreporter.line(f"{model:40} {len(entries):3} cases  {ratio:8.2g}  {where}")
    lists = [path.stem for root in golden_folders(config) for path in find_key_lists(root)]
    if others := [name for name in lists if not KEY_LISTS.fullmatch(name) and not ZOO_LISTS.fullmatch(name)]:
        terminalreporter.section("lists of names that no test of this suite reads")
        terminalreporter.line(", ".join(others))
