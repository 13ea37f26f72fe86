"""What docs/prediction.md shows does run, and a command that fetches an image writes what it finds."""

import functools
import http.server
import json
import re
import shutil
import threading
from pathlib import Path

from vitjax.commands.main import main

DOC = Path(__file__).resolve().parents[2] / "docs" / "prediction.md"


def test_every_snippet_runs_in_order(run, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "runs" / "mine")
    shutil.copy(data / "val" / "0.png", tmp_path / "photo.jpg")
    scope: dict = {}
    for snippet in re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL):
        exec(snippet, scope)
    assert capsys.readouterr().out.splitlines()[-1] == "[3, 3, 3] photo.jpg"
    names = {path.name for path in (tmp_path / "predictions").iterdir()}
    assert (tmp_path / "found.png").is_file() and names == {"image 0.png", "image 1.png", "photo.png"}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


def test_the_command_takes_an_address_a_device_and_tiles(run, data, tmp_path, capsys):
    serve = functools.partial(Quiet, directory=str(data / "val"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address, out = f"http://127.0.0.1:{server.server_port}", tmp_path / "out"
        words = ["predict", str(run), f"{address}/0.png", "--tiles", "--device", "cpu:0", "--out", str(out)]
        assert main(words) == 0
        assert main(["predict", str(run), f"{address}/nowhere.png", "--out", str(out)]) == 1
        server.shutdown()
    assert f"error: {address}/nowhere.png cannot be fetched: 404" in capsys.readouterr().err
    results = json.loads((out / "predictions.json").read_text())
    assert {result["file_name"] for result in results} == {str(out / "downloads" / "0.png")}
    assert {path.name for path in out.iterdir()} == {"0.png", "predictions.json", "downloads"}
    assert max(result["bbox"][0] for result in results) < 64 and len(results) > 5
