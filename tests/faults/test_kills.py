"""A run that is killed wherever it is ends as if nothing had happened."""

import pytest
from faults.kills import CONFIG, assert_same, kill_and_go_on, main, run


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "tiny.py"
    config.write_text(CONFIG)
    return [str(config), "--epochs", "1"]


def test_a_run_that_is_killed_once_ends_as_it_would_have(words, tmp_path):
    assert run([*words, "--workdir", str(tmp_path / "whole")], 500.0) == 0
    moments = kill_and_go_on([*words, "--workdir", str(tmp_path / "run")], 1, seed=0, longest=3.0)
    assert len(moments) == 1
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.long
def test_runs_that_are_killed_twenty_times_end_as_they_would_have():
    main(20, "6")
