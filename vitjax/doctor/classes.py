"""Looks at categories and ids of a COCO json, and at how often each class occurs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from vitjax.data.folder import VALIDATION
from vitjax.data.source import Classes
from vitjax.doctor.report import Finding, Severity, first_of, listed, percent, several

_RARE = 10  # boxes or images; a class with fewer is hardly learned
_UNEVEN = 100  # times
_NO_OBJECT = {"background", "bg", "none", "no object", "nothing", "n/a", "unlabeled", "unlabelled", "ignore", "void"}


def look_at_ids(annotations: list) -> Iterator[Finding]:
    """Ids of annotations that are there twice, missing or 0, over which other tools go wrong."""
    ids = [entry.get("id") for entry in annotations if isinstance(entry, dict)]
    known = Counter(number for number in ids if isinstance(number, int | str | float))
    taken = [f"annotation {number}" for number, count in known.items() if count > 1]
    if taken:
        more = sum(known.values()) - len(known)
        text = f"{several(more, 'annotation')} with an id that another has; they are numbered anew"
        yield Finding("annotations", "hint", text, tuple(taken), "Give each annotation an id of its own, from 1 on.")
    unset = len(ids) - sum(known.values()) + (known[0] == 1)
    if unset:
        yield Finding(
            "annotations", "note", f"{several(unset, 'annotation')} without an id or with id 0, numbered anew"
        )


def look_at_categories(entries: list, classes: Classes, boxes: Int[np.ndarray, " classes"]) -> Iterator[Finding]:
    """Gaps in the ids, categories that mean no object, and names that are there twice; `boxes` counts each class."""
    ids = classes.category_ids
    slots = ids[-1] + 1
    if ids[0] < 0 or slots > 10_000:
        text = f'category ids are {ids[0]} to {ids[-1]}, which is only possible with labels="contiguous" (the default)'
        yield Finding("annotations", "note", text)
    elif len(ids) <= ids[-1] - ids[0]:
        text = (
            f'category ids {ids[0]} to {ids[-1]} have gaps: labels="contiguous" (the default) wastes nothing, '
            f'labels="category_id" leaves {slots - len(ids)} of {slots} slots of the class head empty'
        )
        yield Finding("annotations", "note", text)
    twice = [f"{name!r}" for name, count in Counter(classes.names).items() if count > 1]
    if twice:
        text = f"{several(len(twice), 'name')} that several categories have, which are different classes to the model"
        yield Finding("annotations", "warning", text, tuple(twice), "Make them one category, or name them apart.")
    roots = _roots(entries)
    for name, number, count in zip(classes.names, ids, boxes.tolist(), strict=True):
        if name.strip(" _").lower() in _NO_OBJECT:
            yield _background(name, number, count)
        elif name in roots and not count:
            text = (
                f"category {number} {name!r} is but the group of the others (Roboflow writes one): a label without use"
            )
            yield Finding("annotations", "note", text)


def look_at_counts(
    entries: list, classes: Classes, boxes: Int[np.ndarray, " classes"], training: bool, thing: str = "box"
) -> Iterator[Finding]:
    """Classes that do not occur or hardly do, and how uneven they are."""
    plural = {"box": "boxes"}.get(thing, f"{thing}s")
    aside = _roots(entries) | {name for name in classes.names if name.strip(" _").lower() in _NO_OBJECT}
    counted = sorted(zip(boxes.tolist(), classes.names, strict=True), key=lambda each: -each[0])
    never = [name for count, name in counted if not count and name not in aside]
    rare = [f"{name} ({count})" for count, name in counted if 0 < count < _RARE]
    most, least = (pick((each for each in counted if each[0]), default=(0, "")) for pick in (max, min))
    severity: Severity = "warning" if training else "note"
    if most[0]:
        ratio = most[0] / least[0]
        shown = listed(f"{name} {count:,}" for count, name in counted)
        spread = f"; {ratio:,.0f} to 1 between the most and the least frequent" if most != least else ""
        text = f"{plural} per class: {shown}{spread}"
        yield Finding("annotations", "note" if ratio >= _UNEVEN and training else "ok", text)
    if never and most[0]:
        wish = f"Remove {'them' if len(never) > 1 else 'it'} from all splits, or add {plural}: it cannot be learned."
        text = f"{several(len(never), 'class', 'classes')} without a {thing}"
        yield Finding("annotations", severity, text, tuple(never), wish)
    if rare and training:
        text = f"{several(len(rare), 'class', 'classes')} with fewer than {_RARE} {plural}"
        yield Finding("annotations", "hint", text, tuple(rare), "Label more, or join them with others.")


def compare_classes(classes: Mapping[str, Classes]) -> Iterator[Finding]:
    """Splits whose categories are not those of the first."""
    first, own = next(iter(classes.items()), ("", None))
    for split, found in classes.items():
        if own is None or found == own:
            continue
        mine, theirs = (set(zip(each.category_ids, each.names, strict=True)) for each in (own, found))
        lists = ((f"only in {first}", mine - theirs), (f"only in {split}", theirs - mine))
        shown = [f"{where}: {listed(f'{i} {name}' for i, name in sorted(pairs))}" for where, pairs in lists if pairs]
        severity: Severity = "error" if split in VALIDATION else "warning"
        text = f"other categories than in {first}, so labels would mean different things; {'; '.join(shown)}"
        wish = "Give all splits the same list of categories, with those that do not occur."
        yield Finding("annotations", severity, text, (), wish, split)


def look_at_empty(names: Sequence[str], objects: Int[np.ndarray, " records"]) -> Iterator[Finding]:
    """Images without a box."""
    empty = objects == 0
    if empty.any():
        share = percent(empty.sum(), len(names))
        text = f"{several(empty.sum(), 'image')} without boxes ({share}), which are background throughout"
        yield Finding("images", "note", text, first_of(names, empty))


def _background(name: str, number: int, count: int) -> Finding:
    if not count:
        text = (
            f"category {number} {name!r} has no boxes: a label without use, as models know of no object by themselves"
        )
        return Finding("annotations", "note", text)
    text = (
        f"category {number} {name!r} has {several(count, 'box', 'boxes')}, which the model learns to detect as objects"
    )
    return Finding("annotations", "warning", text, (), "Remove it: what no box covers is background by itself.")


def _roots(entries: list) -> set[str]:
    """Names that are nothing but the group of other categories."""
    named = [(entry.get("name"), entry.get("supercategory")) for entry in entries if isinstance(entry, dict)]
    groups = {str(group) for name, group in named if group and group != name}
    return groups & {str(name) for name, group in named if name and group != name}
