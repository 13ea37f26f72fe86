"""What is fetched from a web server, and what is told where it cannot be."""

import http.server
import threading

import numpy as np
import pytest
from PIL import Image

from vitjax.data import addresses
from vitjax.data.addresses import fetch, file_name, is_address
from vitjax.data.errors import DataError
from vitjax.data.memory import Pictures
from vitjax.data.source import Classes
from vitjax.inference.inputs import fetched

CLASSES = Classes((), ())


class Answering(http.server.BaseHTTPRequestHandler):
    """Gives the image, or does what the path says."""

    content = b""

    def do_GET(self):
        if self.path.startswith("/missing"):
            self.send_error(404, "no such\tfile")
            return
        if self.path.startswith("/loop"):
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
            return
        self.send_response(200)
        if self.path.startswith(("/told", "/cut")):
            self.send_header("Content-Length", str(10**12 if self.path.startswith("/told") else len(self.content) + 9))
        self.end_headers()
        if self.path.startswith("/slow"):
            self.server.waited.wait(5)
        self.wfile.write(b"0" * 3000 if self.path.startswith("/long") else self.content)

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    Answering.content = path.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as running:
        running.waited = threading.Event()
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", pixels
        running.waited.set()
        running.shutdown()


def test_an_image_at_an_address_is_as_its_file_and_called_by_the_address(server):
    root, pixels = server
    pictures = Pictures([f"{root}/my photo.png", Answering.content, bytearray(Answering.content)], CLASSES)
    for record in range(3):
        np.testing.assert_array_equal(pictures[record].image, pixels)
    assert [pictures.name(record) for record in range(3)] == [f"{root}/my photo.png", "image 1", "image 2"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.png", r"404 no such\tfile"),
        ("loop", "302"),
        ("told", "larger than 0.00195312 MiB"),
        ("long", "larger than 0.00195312 MiB"),
        ("cut", "IncompleteRead"),
        ("slow", "too slow; it has 0.2 s to answer"),
    ],
)
def test_what_cannot_be_fetched_is_told_in_one_line(server, path, reason, monkeypatch):
    monkeypatch.setattr(Answering, "content", Answering.content[:500])
    with pytest.raises(DataError) as caught:
        fetch(f"{server[0]}/{path}", limit=2048, timeout=0.2)
    said = str(caught.value)
    assert said.startswith(f"{server[0]}/{path} cannot be fetched: ") and said.endswith(
        "Fetch it yourself, and name the file."
    )
    assert reason in said and len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1/a.png", "http://", "http://[::1/a", "http://a b/c", "https://127.0.0.1:x/a", "http://\nx"],
)
def test_an_address_that_leads_nowhere_is_told_in_one_line(address):
    with pytest.raises(DataError, match=r"cannot be fetched: .+") as caught:
        fetch(address, timeout=1.0)
    assert len(str(caught.value).splitlines()) == 1


def test_a_server_that_trickles_is_left(server, monkeypatch):
    monkeypatch.setattr(addresses, "_PART", 1)
    monkeypatch.setattr(addresses, "_WHOLE", 0)
    with pytest.raises(DataError, match="too slow"):
        fetch(f"{server[0]}/a.png")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://host/folder/a.jpg?size=2#top", "a.jpg"),
        ("https://host", "image"),
        ("http://host/..%2f..%2fetc/pass%20wd", "pass_wd"),
        ("http://host/%2e%2e", "image"),
        ("http://host/a\\b:c.png", "a_b_c.png"),
        ("http://host/" + "x" * 300 + ".png", "x" * 96 + ".png"),
    ],
)
def test_the_name_of_a_file_stays_in_its_folder(address, name):
    assert file_name(address) == name


def test_addresses_are_told_from_files():
    assert (
        is_address("http://a")
        and is_address("HTTPS://a")
        and not is_address("a/http://b")
        and not is_address("http:/a")
    )
    with pytest.raises(DataError, match=r"s3://bucket/a\.png cannot be fetched: addresses begin with http"):
        Pictures(["s3://bucket/a.png"], CLASSES)


def test_addresses_on_the_command_line_become_files_of_different_names(server, tmp_path):
    names = ["mine.png", f"{server[0]}/a.png", f"{server[0]}/b/a.png"]
    files = fetched(names, tmp_path / "downloads")
    assert files == ["mine.png", str(tmp_path / "downloads" / "a.png"), str(tmp_path / "downloads" / "a_2.png")]
    assert (tmp_path / "downloads" / "a_2.png").read_bytes() == Answering.content
