from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vitjax.data.errors import DataError
from vitjax.inference import video as module
from vitjax.inference.video import look_through, open_video, written_video


def write_video(path, frames=6, codec="mp4v", height=48, width=64):
    """A video whose frames are grey, each 20 levels lighter than the one before, with a red left edge."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10.0, (width, height))
    for number in range(frames):
        image = np.full((height, width, 3), 20 * number, np.uint8)
        image[:, :16] = 0, 0, 255  # as OpenCV has it: blue, green, red
        writer.write(image)
    writer.release()
    return path


def cut_short(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


def answers(images):
    """An answer on each image, the last first."""
    return [SimpleNamespace(record=i, grey=int(image[0, -1, 0])) for i, image in enumerate(images)][::-1]


def test_frames_come_in_order_upright_in_red_green_blue_and_with_their_time(tmp_path):
    video = open_video(write_video(tmp_path / "a.mp4"))
    assert (video.height, video.width, video.rate, video.told) == (48, 64, 10.0, 6)
    frames = list(video.frames())
    assert [frame.number for frame in frames] == list(range(6))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(6) / 10, atol=1e-6)
    np.testing.assert_allclose([frame.image[0, -1, 0] for frame in frames], 20 * np.arange(6), atol=6)
    assert frames[0].image[20, 4, 0] > 200 > 60 > frames[0].image[20, 4, 2]
    assert video.ending(6) == ()


@pytest.mark.parametrize(("batch_size", "every"), [(1, 1), (2, 1), (4, 2), (8, 1), (1, 4)])
def test_every_frame_comes_with_its_own_answer(tmp_path, monkeypatch, batch_size, every):
    monkeypatch.setattr(module, "_BATCHES_AT_ONCE", 2)
    video = open_video(write_video(tmp_path / "a.mp4"))
    sizes = []

    def look(images):
        sizes.append(len(images))
        return answers(images)

    pairs = list(look_through(video, look, batch_size=batch_size, every=every))
    assert [frame.number for frame, _ in pairs] == list(range(6))
    for frame, answer in pairs:
        assert (answer is not None) == (frame.number % every == 0)
        assert answer is None or answer.grey == frame.image[0, -1, 0]
    assert max(sizes) <= 2 * batch_size


def test_large_frames_wait_in_small_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_WAITING_BYTES", 2 * 3 * 48 * 64)
    sizes = []
    video = open_video(write_video(tmp_path / "a.mp4"))
    for _ in look_through(video, lambda images: sizes.append(len(images)) or answers(images), batch_size=4):
        pass
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize("content", [b"", b"this is a letter"])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "letter.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"letter\.mp4"):
        open_video(path)


def test_a_video_without_its_index_is_named(tmp_path):
    with pytest.raises(DataError, match=r"half\.mp4 cannot be read"):
        open_video(cut_short(write_video(tmp_path / "half.mp4"), 0.5))


def test_a_video_that_breaks_off_gives_what_there_is_and_says_so(tmp_path):
    video = open_video(cut_short(write_video(tmp_path / "a.mkv", codec="MJPG", frames=12), 0.7))
    count = len(list(video.frames()))
    assert 0 < count < 12
    assert video.ending(count) == (f"{video.path} breaks off: {count} of its 12 frames could be read",)


@pytest.mark.parametrize("rate", [12.5, 29.97003, 119.8734])
def test_what_is_written_reads_back_with_its_size_and_rate(tmp_path, rate):
    image = np.zeros((47, 63, 3), np.uint8)
    image[..., 0] = 200
    with written_video(tmp_path / "out.mp4", height=47, width=63, rate=rate) as write:
        for _ in range(3):
            write(image)
    video = open_video(tmp_path / "out.mp4")
    assert (video.height, video.width) == (48, 64)
    assert video.rate == pytest.approx(rate, rel=1e-4)
    frames = list(video.frames())
    assert len(frames) == 3
    np.testing.assert_allclose(frames[1].image.mean((0, 1)), [200, 0, 0], atol=12)


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(DataError, match=r"out\.mp4 cannot be written.*mp4v"),
        written_video(tmp_path / "missing" / "out.mp4", height=48, width=64, rate=10.0),
    ):
        pass
