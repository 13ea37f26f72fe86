"""Words that several commands take, under the names that their usage lines give them."""

from typing import Annotated

import tyro

ModelWord = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
OutWord = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
ImageWord = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
ImageWords = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE ...")]
