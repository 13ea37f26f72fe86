"""Repositories of the Hugging Face hub."""

import re
from pathlib import Path

from vitjax.data.errors import DataError
from vitjax.families.huggingface.folder import CONFIG, PROCESSOR, WEIGHTS, is_folder


def is_repository(name: str) -> bool:
    """Whether the text may be the name of a repository, owner/name."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def fetch(repo_id: str) -> Path:
    """The folder to which a repository's settings and safetensors are downloaded, or were before.

    Raises:
        DataError: the repository cannot be had, or has no such files.
    """
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise DataError(
            f"there is no {repo_id} here, and fetching it from Hugging Face needs pip install huggingface_hub; "
            "else give a folder that is there."
        ) from error
    patterns = [CONFIG, PROCESSOR, "model*.safetensors", f"{WEIGHTS[0]}.index.json"]
    try:
        path = Path(snapshot_download(repo_id, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise DataError(f"{repo_id} is gated: accept its terms on the hub, then `hf auth login`.") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise DataError(
            f"there is no {repo_id} on the Hugging Face hub, or it is private: `hf auth login` first."
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise DataError(
            f"{repo_id} cannot be fetched ({type(error).__name__}); where there is no network, give a folder of it."
        ) from error
    if not is_folder(path):
        raise DataError(f"{repo_id} has no {CONFIG} with {WEIGHTS[0]}; download its other weights and give the folder.")
    return path
