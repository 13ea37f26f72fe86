"""Repositories of the hub, which is not asked here."""

import sys
import types

import pytest

from vitjax.data.errors import DataError
from vitjax.families.huggingface.hub import fetch


@pytest.fixture
def folder(tmp_path):
    """A folder with settings and weights, which nobody reads."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    return tmp_path


def hub(monkeypatch, download) -> types.SimpleNamespace:
    """The hub's library with nothing but what is needed; gives its errors."""
    not_found = type("RepositoryNotFoundError", (Exception,), {})
    kinds = {"RepositoryNotFoundError": not_found, "GatedRepoError": type("GatedRepoError", (not_found,), {})}
    kinds |= {name: type(name, (Exception,), {}) for name in ("HfHubHTTPError", "HFValidationError")}
    errors = types.SimpleNamespace(**kinds, LocalEntryNotFoundError=type("LocalEntryNotFoundError", (OSError,), {}))
    module = types.SimpleNamespace(errors=errors, snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return errors


def test_fetching_takes_settings_and_safetensors_only(folder, monkeypatch):
    asked = []

    def download(repo_id, allow_patterns):
        asked.append((repo_id, allow_patterns))
        return str(folder)

    hub(monkeypatch, download)
    assert fetch("somebody/detr") == folder
    patterns = ["config.json", "preprocessor_config.json", "model*.safetensors", "model.safetensors.index.json"]
    assert asked == [("somebody/detr", patterns)]
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no config\.json with model\.safetensors"):
        fetch("somebody/detr")


def test_fetching_without_the_library_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match="pip install huggingface_hub"):
        fetch("somebody/detr")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "is gated: accept its terms"),
        ("RepositoryNotFoundError", "there is no somebody/detr on the Hugging Face hub"),
        ("LocalEntryNotFoundError", "where there is no network, give a folder of it"),
    ],
)
def test_what_keeps_a_repository_away_is_told(name, message, monkeypatch):
    def download(repo_id, allow_patterns):
        raise getattr(errors, name)("")

    errors = hub(monkeypatch, download)
    with pytest.raises(DataError, match=message):
        fetch("somebody/detr")
