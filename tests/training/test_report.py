"""What a run leaves behind: the log and its resumption, the progress on a terminal and off one."""

import io
import json
import math
import struct

import jax.numpy as jnp
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from vitjax.tasks.detection import Detector
from vitjax.training import report
from vitjax.training.report import MetricsLog, Progress, read_metrics

AP = Detector.about.curves


def lines_of(workdir):
    """The records of the log as json gives them."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events_of(workdir):
    """All events of TensorBoard's files, oldest file first; a record is length, checksum, bytes, checksum."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)
            events.append(Event.FromString(content[at + 12 : at + 12 + length]))
            at += 16 + length
    return events


def scalars_of(workdir):
    """(step, tag, value) of every scalar that TensorBoard would read."""
    return [
        (event.step, value.tag, value.simple_value) for event in events_of(workdir) for value in event.summary.value
    ]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """It is one."""
        return True


class Clock:
    """A clock that goes only when told."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """The time in seconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of the report."""
    fake = Clock()
    monkeypatch.setattr(report.time, "monotonic", fake)
    return fake


def test_a_record_is_one_object_with_step_split_and_values(tmp_path):
    with MetricsLog(tmp_path / "run") as log:
        log.write(10, "train", {"loss": 2.5, "box": np.float32(0.25), "giou": jnp.float32(0.5), "objects": 7})
        log.write(10, "val", {"AP": 0.125})
    assert lines_of(tmp_path / "run") == [
        {"step": 10, "split": "train", "loss": 2.5, "box": 0.25, "giou": 0.5, "objects": 7.0},
        {"step": 10, "split": "val", "AP": 0.125},
    ]


def test_a_record_is_on_disk_before_the_log_is_closed(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": 1.0})
        assert lines_of(tmp_path)[0]["loss"] == 1.0


def test_what_is_not_finite_is_null_in_the_file_and_nan_when_read(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, "val", {"AP": math.nan, "APs": math.inf, "APm": 0.5})
    assert lines_of(tmp_path) == [{"step": 1, "split": "val", "AP": None, "APs": None, "APm": 0.5}]
    (record,) = read_metrics(tmp_path)
    assert math.isnan(record["AP"])
    assert record["APm"] == 0.5
    assert scalars_of(tmp_path) == [(1, "val/APm", 0.5)]


@pytest.mark.parametrize("name", ["step", "split"])
def test_a_metric_may_not_take_the_name_of_a_field(tmp_path, name):
    with MetricsLog(tmp_path) as log, pytest.raises(ValueError, match=f"called '{name}'"):
        log.write(1, "train", {name: 3.0})


def test_a_log_goes_on_where_the_last_one_ended(tmp_path):
    for step in (1, 2):
        with MetricsLog(tmp_path) as log:
            log.write(step, "train", {"loss": float(step)})
    assert [record["step"] for record in lines_of(tmp_path)] == [1, 2]
    assert scalars_of(tmp_path) == [(1, "train/loss", 1.0), (2, "train/loss", 2.0)]


@pytest.mark.parametrize(
    "torn", ['{"step": 3, "spl', '{"step": 3', "\0\0\0"], ids=["in a name", "in a number", "zeros"]
)
def test_a_line_that_a_kill_left_unfinished_is_dropped(tmp_path, torn):
    with MetricsLog(tmp_path) as log:
        log.write(1, "train", {"loss": 1.0})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    assert [record["step"] for record in read_metrics(tmp_path)] == [1]
    with MetricsLog(tmp_path) as log:
        log.write(2, "train", {"loss": 2.0})
    assert [record["step"] for record in lines_of(tmp_path)] == [1, 2]


def test_a_whole_record_without_line_end_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "split": "train", "loss": null}')
    with MetricsLog(tmp_path) as log:
        log.write(2, "train", {"loss": 2.0})
    assert [record["loss"] for record in lines_of(tmp_path)] == [None, 2.0]


STRANGE = {
    "text": "no json", "list": "[1]", "nested": "[" * 100_000, "no step": '{"split": "train"}',
    "no split": '{"step": 1}', "null": '{"step": null, "split": "train"}',
    "infinite": '{"step": 1e999, "split": "train"}',
    "words": '{"step": 1, "split": "train", "loss": "low"}', "lists": '{"step": 1, "split": [], "loss": 1}',
}  # fmt: skip


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE)
def test_a_line_in_the_middle_that_is_no_record_is_named(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1, "split": "train"}}\n{line}\n{{"step": 2, "split": "val"}}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is no record"):
        MetricsLog(tmp_path)


def test_truncation_cuts_what_lies_beyond_the_restored_step(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, "train", {"loss": 1.0})
            log.write(step, "val", {"AP": math.nan})
    with MetricsLog(tmp_path) as log:
        log.truncate(20)
        log.write(30, "train", {"loss": 0.5})
    records = [(record["step"], record["split"], record.get("loss")) for record in lines_of(tmp_path)]
    assert records == [(10, "train", 1.0), (10, "val", None), (20, "train", 1.0), (20, "val", None), (30, "train", 0.5)]


def test_truncation_marks_for_tensorboard_from_which_step_on_old_events_are_void(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(10, "train", {"loss": 1.0})
        log.truncate(4)
        log.write(5, "train", {"loss": 2.0})
    marks = [event.step for event in events_of(tmp_path) if event.HasField("session_log")]
    assert marks == [5]
    assert scalars_of(tmp_path) == [(10, "train/loss", 1.0), (5, "train/loss", 2.0)]


def test_truncation_of_an_empty_log_changes_nothing(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.truncate(0)
        log.write(1, "train", {"loss": 1.0})
    assert len(lines_of(tmp_path)) == 1
    assert not [event for event in events_of(tmp_path) if event.HasField("session_log")]


def test_closing_twice_does_no_harm(tmp_path):
    log = MetricsLog(tmp_path)
    log.close()
    log.close()


def test_reading_a_folder_without_log_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*metrics\.jsonl"):
        read_metrics(tmp_path)


def test_off_a_terminal_a_plain_line_comes_every_few_steps_and_at_the_end():
    stream = io.StringIO()
    with Progress(25, every=10, stream=stream) as progress:
        for step in range(1, 26):
            progress.update(step, loss=1.5)
    steps = [line.split(",")[0] for line in stream.getvalue().splitlines()]
    assert steps == ["step 10/25", "step 20/25", "step 25/25"]
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize(("total", "lines"), [(10, 10), (3000, 50), (20_000, 200)], ids="{}".format)
def test_the_number_of_plain_lines_suits_the_length_of_the_run(total, lines):
    stream = io.StringIO()
    with Progress(total, stream=stream) as progress:
        for step in range(1, total + 1):
            progress.update(step)
    assert len(stream.getvalue().splitlines()) == lines


def test_a_line_has_loss_images_per_second_and_time_left(clock):
    stream = io.StringIO()
    with Progress(1_000, every=5, stream=stream) as progress:
        clock.now += 60  # compilation, which is not reckoned
        for step in range(1, 6):
            progress.update(step, loss=np.float32(2.5), images=8)
            clock.now += 2
    assert stream.getvalue() == "step 5/1,000, loss 2.500, 4 images/s, 0:33:10 left\n"


def test_values_stay_until_the_next(clock):
    stream = io.StringIO()
    with Progress(4, every=1, stream=stream) as progress:
        progress.update(1, loss=3.0, images=1234)
        clock.now += 1
        progress.update(2, images=1234)
        clock.now += 1
        progress.update(3)
        progress.update(4, loss=math.nan)
    first, second, third, fourth = stream.getvalue().splitlines()
    assert first == "step 1/4, loss 3.000"
    assert second == "step 2/4, loss 3.000, 1,234 images/s, 0:00:02 left"
    assert third == "step 3/4, loss 3.000, 1,234 images/s, 0:00:01 left"
    assert "loss" not in fourth


def test_one_long_evaluation_does_not_change_images_per_second(clock):
    stream = io.StringIO()
    with Progress(20, every=20, stream=stream) as progress:
        for step in range(1, 21):
            clock.now += 100 if step == 10 else 1
            progress.update(step, images=16)
    assert "16 images/s" in stream.getvalue()


def test_a_resumed_run_reckons_from_its_first_step(clock):
    stream = io.StringIO()
    with Progress(1_000, 900, every=50, stream=stream) as progress:
        for step in range(901, 951):
            clock.now += 1
            progress.update(step)
    assert stream.getvalue() == "step 950/1,000, 0:00:50 left\n"


def test_on_a_terminal_there_is_a_bar_that_ends_full(capsys, clock):
    stream = Terminal()
    with Progress(30, 10, stream=stream) as progress:
        for step in range(11, 31):
            clock.now += 1
            progress.update(step, loss=0.75, images=20)
        progress.write("step 30: AP 0.500")
    assert "10/30" in stream.getvalue()
    last = stream.getvalue().replace("\r", "\n").splitlines()[-1]
    assert "30/30" in last
    assert "100%, loss 0.750, 20 images/s, 0:00:00 left" in last
    assert "step 30: AP 0.500" in capsys.readouterr().out


def test_off_a_terminal_a_text_goes_to_stdout(capsys):
    with Progress(30, stream=io.StringIO()) as progress:
        progress.write("step 30: AP 0.500")
    assert capsys.readouterr() == ("step 30: AP 0.500\n", "")


def test_pictures_and_scores_of_classes_are_in_the_event_files(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(3, "val", {"AP": 0.5, "AP/red mug": 0.25})
        log.image(3, "val/predictions", np.full((4, 6, 3), 200, np.uint8))
    (path,) = (tmp_path / "tensorboard").iterdir()
    content = path.read_bytes()
    assert all(tag in content for tag in (b"val/AP/red_mug", b"val/predictions", b"\x89PNG"))


def test_the_log_knows_what_it_has_also_when_it_goes_on(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (1, 2):
            log.write(step, "train", {"loss": 1.0})
        log.write(1, "val", {"AP": 0.5})
    with MetricsLog(tmp_path) as log:
        assert log.has(2, "train") and log.has(1, "val") and not log.has(2, "val")
        log.truncate(1)
        assert log.has(1, "val") and not log.has(2, "train")
