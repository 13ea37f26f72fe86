"""The picture that `vitjax explain` draws of a model and an image, and what it tells about it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitjax.data.memory import Picture
from vitjax.errors import FieldError
from vitjax.explain.attention_maps import attention_of
from vitjax.explain.attention_picture import draw_attention
from vitjax.explain.group_maps import groups_of
from vitjax.explain.group_picture import draw_groups
from vitjax.explain.looks import looks_of
from vitjax.explain.looks_picture import draw_looks
from vitjax.explain.question import Queries
from vitjax.explain.sampling_picture import draw_sampling
from vitjax.explain.sampling_points import Origin, sampling_of
from vitjax.explain.subject import Subject


def explain(subject: Subject, image: Picture, out: str | None, **options: Any) -> list[str]:
    """Draws the picture that suits the model; options that are None are left out. Gives lines for people.

    Raises:
        FieldError: the model has no such attention, or an option is not for it, or out of range.
        DataError: the image is missing or cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "query" in given and "pixel" in given:
        raise FieldError("explain draws --query or --pixel, not both; leave out one of them.")
    what, takes, name, draw = KINDS[_kind(subject, of_backbone="stage" in given or "block" in given)]
    for option in given:
        if option not in takes.split():
            these = ", ".join(f"--{one}" for one in takes.split())
            raise FieldError(f"--{option} is not for {what}; these take {these}.")
    return draw(subject, image, Path(out or name), given)


def _kind(subject: Subject, *, of_backbone: bool) -> str:
    """What is drawn of a model: what its queries look at, or else, or where it is asked for, what its backbone does."""
    if not of_backbone and (subject.has("attention") or subject.has("sampling")):
        return "attention" if subject.has("attention") else "sampling"
    return "groups" if subject.has("groups") else "looks"


def _looks(subject: Subject, image: Picture, out: Path, asked: dict[str, Any]) -> list[str]:
    found = looks_of(subject, image)
    found = found.of_stage(asked["stage"]) if "stage" in asked else found
    drawn = draw_looks(found, asked.get("pixel", found.image.middle), out)
    told = [] if found.score is None else [f"{found.label}, probability {found.score:.2f}"]
    return [*told, f"wrote {out}: " + "; ".join(f"{one.module}: {one.kind}" for one in drawn)]


def _groups(subject: Subject, image: Picture, out: Path, asked: dict[str, Any]) -> list[str]:
    groups = groups_of(subject, image)
    pixel, stage = asked.get("pixel", groups.grids[0].image.middle), asked.get("stage", 1)
    if "block" in asked:
        found = [groups.of_pixel(*pixel, stage=stage, block=asked["block"])]
    else:
        found = list(groups.both(*pixel, stage=stage))
    found = [one.of_head(asked["head"]) for one in found] if "head" in asked else found
    draw_groups(found, out)
    told = [] if groups.score is None else [f"{groups.label}, probability {groups.score:.2f}"]
    places = " and ".join(f"{one.attention.question.place} ({one.spread})" for one in found)
    return [*told, f"wrote {out}: {found[0].attention.question.query} in {places}"]


def _attention(subject: Subject, image: Picture, out: Path, asked: dict[str, Any]) -> list[str]:
    attention = attention_of(subject, image)
    layer = asked.get("layer", -1)
    pixel = "pixel" in asked and attention.of_pixel(*asked["pixel"], layer=layer)
    found = pixel or attention.of_query(asked.get("query"), layer=layer)
    draw_attention(found.of_head(asked["head"]) if "head" in asked else found, out)
    told = _told(attention.queries, asked.get("threshold", subject.threshold))
    return [*told, f"wrote {out}: {found.question.query} in {found.question.place}"]


def _sampling(subject: Subject, image: Picture, out: Path, asked: dict[str, Any]) -> list[str]:
    if "level" in asked and "pixel" not in asked:
        raise FieldError("--level goes with --pixel; without a pixel every level of a decoder query is drawn.")
    sampling = sampling_of(subject, image)
    layer = asked.get("layer", -1)
    pixel = "pixel" in asked and sampling.of_pixel(*asked["pixel"], layer=layer, level=asked.get("level", 0))
    found = pixel or sampling.of_query(asked.get("query"), layer=layer)
    draw_sampling(found.of_head(asked["head"]) if "head" in asked else found, out, zoom=asked.get("zoom", 1.0))
    told = _told(sampling.queries, asked.get("threshold", subject.threshold), sampling.origins)
    place = f"{found.question.part} layer {found.question.layer} of 0 to {found.question.layers - 1}"
    return [*told, f"wrote {out}: {found.question.query} in {place}"]


def _told(queries: Queries, threshold: float, origins: tuple[Origin, ...] | None = None) -> list[str]:
    """The queries of all detections, best first, and the proposals that they come from, if they do."""
    ranked = queries.ranked(threshold)
    told = [f"query {query}: {queries.names[query]}, score {queries.scores[query]:.2f}" for query in ranked]
    if origins is None:
        return told
    return [f"{line}, {origins[query].words}" for line, query in zip(told, ranked, strict=True)]


# What can be drawn, the options that it takes, where it is written by default, and by whom.
KINDS: dict[str, tuple[str, str, str, Callable[[Subject, Picture, Path, dict[str, Any]], list[str]]]] = {
    "attention": ("the attention of a DETR", "query pixel layer head threshold", "attention.png", _attention),
    "sampling": (
        "the sampling points of a DeformableDETR or DINO",
        "query pixel level layer head zoom threshold",
        "sampling.png",
        _sampling,
    ),
    "groups": ("the groups of a CrossFormer", "pixel stage block head", "groups.png", _groups),
    "looks": ("the attention modules of a backbone", "pixel stage", "attention.png", _looks),
}
