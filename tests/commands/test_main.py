import errno
import importlib
import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import vitjax
from vitjax.commands import doctor
from vitjax.commands.main import COMMANDS, main, usage
from vitjax.training import interruption

PACKAGE = Path(vitjax.__file__).parent


def let_doctor_run(monkeypatch: pytest.MonkeyPatch, body: str, file: Path) -> None:
    """Lets the command `doctor` be one statement that stands in this file."""
    scope: dict = {}
    exec(compile(f"def run(words):\n    {body}\n", str(file), "exec"), scope)
    monkeypatch.setattr(doctor, "run", scope["run"])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_a_file_with_a_run(name):
    assert callable(importlib.import_module(f"vitjax.commands.{name}").run)


def test_help_names_every_command_and_what_it_takes(capsys):
    assert main([]) == main(["--help"]) == 0
    assert capsys.readouterr().out == 2 * (usage() + "\n")
    assert "  doctor DATA              tells what in a data folder" in usage()
    assert "\n                           of a classifier, prints the top five classes" in usage()


def test_a_command_that_there_is_not_is_refused_with_those_that_there_are(capsys):
    assert main(["trian"]) == 2
    assert "no command 'trian'; choose one of train, evaluate, predict" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"]])
def test_help_and_doctor_do_not_start_jax(words):
    code = f"""
        import sys
        from vitjax.commands.main import main
        try:
            main({words})
        except SystemExit:
            pass
        assert "jax" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, stdout=subprocess.DEVNULL)


def test_an_error_of_a_class_of_vitjax_is_one_line_wherever_it_was_raised(monkeypatch, capsys):
    let_doctor_run(monkeypatch, "from vitjax.data.errors import DataError; raise DataError('no data')", Path("mine.py"))
    assert main(["doctor"]) == 1
    assert capsys.readouterr().err == "error: no data\n"


def test_a_value_error_of_a_users_module_keeps_its_traceback(monkeypatch):
    let_doctor_run(monkeypatch, 'raise ValueError("of a user")', Path("mine.py"))
    with pytest.raises(ValueError, match="of a user"):
        main(["doctor"])


def test_a_value_error_of_a_library_that_vitjax_calls_keeps_its_traceback(monkeypatch):
    let_doctor_run(monkeypatch, 'int("x")', PACKAGE / "mine.py")
    with pytest.raises(ValueError, match="invalid literal"):
        main(["doctor"])


@pytest.mark.parametrize(
    "words",
    [
        ["train", "quickstart", "--workdir", "FILE"],
        ["predict", "no model", "FILE", "--out", "FILE"],
        ["explain", "no model", "FILE", "--out", "FILE/x.png"],
        ["convert", "no model", "FILE/x.pth"],
        ["convert", "no model", "FILE/run"],
        ["export", "no model", "FILE"],
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_every_command_says_it_in_one_line_before_it_reads_anything(tmp_path, words, capsys):
    (tmp_path / "file.png").touch()
    assert main([word.replace("FILE", str(tmp_path / "file.png")) for word in words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("error: ") and "file.png" in line and "cannot be written: " in line and "Give another" in line
    )


def test_a_folder_in_another_layout_is_read_in_it_and_its_faults_are_told(tmp_path, capsys):
    for folder in ("images/train", "labels/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "images/train/a.png")
    (tmp_path / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cell]\n")
    words = ["train", "deformable_detr_small", "--data.root", str(tmp_path), "--workdir", str(tmp_path / "run")]
    assert main(words) == 1
    told = capsys.readouterr()
    assert told.out == f"{tmp_path} is in YOLO's layout, and is read as YoloFolder\n"
    assert told.err.startswith(f"error: {tmp_path / 'data.yaml'} has no split 'val'; there are: train. ")
    assert main(["doctor", str(tmp_path / "data.yaml"), "--split", "train"]) == 0
    assert "YOLO's layout, 1 split (train)" in capsys.readouterr().out


def test_a_path_that_may_not_be_used_is_told_in_one_line(monkeypatch, capsys):
    let_doctor_run(monkeypatch, "raise PermissionError(13, 'Permission denied', '/secret/a.jpg')", PACKAGE / "a.py")
    assert main(["doctor", "x"]) == 1
    assert capsys.readouterr().err.startswith("error: /secret/a.jpg cannot be used: Permission denied. Name another")
    let_doctor_run(monkeypatch, "raise PermissionError(13, 'Permission denied')", PACKAGE / "a.py")
    with pytest.raises(PermissionError):  # of no path, so nobody would know what to mend
        main(["doctor", "x"])


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    let_doctor_run(monkeypatch, "raise KeyboardInterrupt", PACKAGE / "a.py")
    assert main(["doctor", "x"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_a_process_that_still_compiles_what_was_given_up_ends_without_waiting(monkeypatch):
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr(interruption, "is_busy", lambda: True)
    let_doctor_run(monkeypatch, "raise KeyboardInterrupt('stopped before the first step')", PACKAGE / "a.py")
    main(["doctor", "x"])
    assert ended == [130]


def test_a_disk_too_full_for_what_is_printed_ends_nothing(monkeypatch, tmp_path):
    def full(text):
        raise OSError(errno.ENOSPC, "No space left on device")

    stream = SimpleNamespace(write=full, flush=lambda: None)
    monkeypatch.setattr("sys.stdout", stream)
    let_doctor_run(monkeypatch, "print('found')", PACKAGE / "a.py")
    assert main(["doctor", "x"]) == 0
    assert sys.stdout is stream


def test_what_is_no_text_is_printed_in_escapes(tmp_path):
    script = "from vitjax.commands.streams import forgiving_streams\nwith forgiving_streams():\n    print('\\ud800')"
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.returncode) == ("\\ud800\n", 0), done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_process_without_standard_streams_does_what_it_is_asked(closed, tmp_path):
    words = f"{shlex.quote(sys.executable)} -m vitjax doctor {shlex.quote(str(tmp_path / 'nothing'))} {closed}"
    done = subprocess.run(["bash", "-c", words], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
