"""The layouts that images with boxes come in, told by what lies in a folder."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from vitjax.data.annotated_files import Listing
from vitjax.data.coco import CocoFolder, coco_splits, find_json, read_coco
from vitjax.data.errors import DataError
from vitjax.data.folder import aliases
from vitjax.data.source import Classes
from vitjax.data.voc import VocFolder
from vitjax.data.voc_xml import read_voc, voc_splits
from vitjax.data.yolo import YoloFolder
from vitjax.data.yolo_labels import read_yolo
from vitjax.data.yolo_set import yolo_splits

_MOST = 20  # folders that are looked into; more are those of classes


class Layout(NamedTuple):
    """How a layout is called, its source, the splits that a folder has in it, and how one of them is read."""

    title: str
    source: type
    splits: Callable[[Path], tuple[str, ...]]
    read: Callable[..., Listing]

    def has(self, root: Path, split: str) -> bool:
        """Whether there is a split of this name, or of another that means the same."""
        if self.source is not CocoFolder:
            return not {*self.splits(root)}.isdisjoint(aliases(split))
        try:
            return bool(find_json(root, split))
        except DataError:
            return False


LAYOUTS = (
    Layout("COCO format", CocoFolder, coco_splits, read_coco),
    Layout("YOLO's layout", YoloFolder, yolo_splits, read_yolo),
    Layout("Pascal VOC's layout", VocFolder, voc_splits, read_voc),
)


def layout_of(root: Path) -> Layout | None:
    """The first layout in which a folder has a split, None where it has none in any; a yaml is YOLO's."""
    return next((layout for layout in LAYOUTS if layout.splits(root)), None)


def inside(root: Path) -> str:
    """In which folder of a root, that has no layout itself, data lie, as a sentence; "" where none has them."""
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    found = next((folder for folder in folders[:_MOST] if layout_of(folder)), None)
    return "" if found is None else f"Data lie in a folder of it: try --data.root {found}. "


def named_as(source: Any, data: Any, classes: Classes, *, moved: bool = False) -> Any:
    """The source with the labels of `classes` by name, where the layout of its data numbers classes for itself.

    So it is where data have `moved` to another layout than that which gave `classes` their ids.
    """
    return source.named_as(classes) if moved or isinstance(data, YoloFolder | VocFolder) else source


def in_its_layout(data: Any) -> tuple[Any, tuple[str, ...]]:
    """The source for the layout that the root of a source is in, with its splits, and a line that says so.

    A source stays what it is where its root has its own layout, or none that is known, or it is none of these.
    """
    own = next((layout for layout in LAYOUTS if layout.source is type(data)), None)
    root = Path(data.root).expanduser() if own is not None and data.root else None
    if own is None or root is None or not root.exists() or own.splits(root):
        return data, ()
    layout = layout_of(root)
    if layout is None:
        return data, ()
    fields = {field.name for field in dataclasses.fields(layout.source)}
    shared = {name: value for name, value in vars(data).items() if name in fields}
    return layout.source(**shared), (f"{data.root} is in {layout.title}, and is read as {layout.source.__name__}",)
