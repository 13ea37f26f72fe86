import pytest

from vitjax.runs.fork import forked, without_fork
from vitjax.tasks.detection import Detection


@pytest.fixture
def run(tmp_path):
    """A run folder with the traces of two checkpoints, the later one cut."""
    for step in (8, 16):
        (tmp_path / "run" / "checkpoints" / str(step) / "record").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "8" / "record" / "record.json").touch()
    return tmp_path / "run"


def test_the_word_is_taken_out_with_the_folder_behind_it():
    assert without_fork(["--seed", "1"]) == (["--seed", "1"], None)
    assert without_fork(["--fork", "--seed", "1"]) == (["--seed", "1"], "")
    assert without_fork(["--seed", "1", "--fork"]) == (["--seed", "1"], "")
    assert without_fork(["--fork", "new", "--seed", "1"]) == (["--seed", "1"], "new")


def test_a_fork_starts_in_the_next_free_folder_from_the_latest_whole_checkpoint(run):
    new = forked(Detection(workdir=str(run), seed=3))
    assert (new.workdir, new.init_from, new.seed) == (f"{run}-2", str(run / "checkpoints" / "8"), 3)
    run.with_name("run-2").mkdir()
    assert forked(Detection(workdir=str(run))).workdir == f"{run}-3"
    assert forked(Detection(workdir=str(run)), "mine").workdir == "mine"


def test_a_fork_needs_a_run_a_new_folder_and_no_other_weights(run, tmp_path):
    with pytest.raises(ValueError, match="has no checkpoint"):
        forked(Detection(workdir=str(tmp_path / "absent")))
    with pytest.raises(ValueError, match="is there already"):
        forked(Detection(workdir=str(run)), str(tmp_path))
    with pytest.raises(ValueError, match=r"--init-from detr\.pth cannot be that too"):
        forked(Detection(workdir=str(run), init_from="detr.pth"))
