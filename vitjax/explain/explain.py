"""The picture that `vitjax explain` draws of a model and an image, and what it tells about it."""

from pathlib import Path
from typing import Any

from vitjax.backbones.crossformer import CrossFormer
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.errors import FieldError
from vitjax.explain.attention_maps import Attention
from vitjax.explain.attention_picture import draw_attention
from vitjax.explain.group_picture import draw_groups
from vitjax.explain.looks_picture import draw_looks
from vitjax.explain.sampling_picture import draw_sampling
from vitjax.explain.sampling_points import Sampling
from vitjax.inference.predictor import Predictor

# What can be drawn, and the options that it takes.
SAMPLING = ("the sampling points of a DeformableDETR", "query pixel level layer head zoom threshold".split())
ATTENTION = ("the attention of a DETR", "query pixel layer head threshold".split())
GROUPS = ("the groups of a CrossFormer", "pixel stage block head".split())
LOOKS = ("the attention modules of a backbone", "pixel stage".split())


def explain(predictor: Predictor, image: str, out: str | None, **options: Any) -> list[str]:
    """Draws the picture that suits the model; options that are None are left out. Gives lines for people.

    Raises:
        FieldError: the model has no such attention, or an option is not for it, or out of range.
        DataError: the image is missing or cannot be read.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "query" in given and "pixel" in given:
        raise FieldError("explain draws --query or --pixel, not both; leave out one of them.")
    if getattr(predictor.model, "task", "detection") != "detection" or "stage" in given or "block" in given:
        if not isinstance(getattr(predictor.model, "backbone", None), CrossFormer):
            return _looks(predictor, image, Path(out or "attention.png"), _checked(given, LOOKS))
        return _groups(predictor, image, Path(out or "groups.png"), _checked(given, GROUPS))
    if isinstance(predictor.model, DeformableDETR):
        return _sampling(predictor, image, Path(out or "sampling.png"), _checked(given, SAMPLING))
    return _attention(predictor, image, Path(out or "attention.png"), _checked(given, ATTENTION))


def _checked(given: dict[str, Any], kind: tuple[str, list[str]]) -> dict[str, Any]:
    what, names = kind
    for name in given:
        if name not in names:
            raise FieldError(f"--{name} is not for {what}; these take {', '.join(f'--{one}' for one in names)}.")
    return given


def _looks(predictor: Predictor, image: str, out: Path, asked: dict[str, Any]) -> list[str]:
    found = predictor.looks(image)
    found = found.of_stage(asked["stage"]) if "stage" in asked else found
    drawn = draw_looks(found, asked.get("pixel", found.image.middle), out)
    told = [] if found.score is None else [f"{found.label}, probability {found.score:.2f}"]
    return [*told, f"wrote {out}: " + "; ".join(f"{one.module}: {one.kind}" for one in drawn)]


def _groups(predictor: Predictor, image: str, out: Path, asked: dict[str, Any]) -> list[str]:
    groups = predictor.groups(image)
    pixel, stage = asked.get("pixel", groups.image.middle), asked.get("stage", 1)
    if "block" in asked:
        found = [groups.of_pixel(*pixel, stage=stage, block=asked["block"])]
    else:
        found = list(groups.both(*pixel, stage=stage))
    found = [one.of_head(asked["head"]) for one in found] if "head" in asked else found
    draw_groups(found, out)
    told = [] if groups.score is None else [f"{groups.label}, probability {groups.score:.2f}"]
    return [*told, f"wrote {out}: {found[0].query} in " + " and ".join(f"{one.place} ({one.spread})" for one in found)]


def _attention(predictor: Predictor, image: str, out: Path, asked: dict[str, Any]) -> list[str]:
    attention = predictor.attention(image)
    layer = asked.get("layer", -1)
    if "pixel" in asked:
        found = attention.of_pixel(*asked["pixel"], layer=layer)
    else:
        found = attention.of_query(asked.get("query"), layer=layer)
    draw_attention(found.of_head(asked["head"]) if "head" in asked else found, out)
    return [*_queries(predictor, attention, asked), f"wrote {out}: {found.query} in {found.place}"]


def _sampling(predictor: Predictor, image: str, out: Path, asked: dict[str, Any]) -> list[str]:
    if "level" in asked and "pixel" not in asked:
        raise FieldError("--level goes with --pixel; without a pixel every level of a decoder query is drawn.")
    sampling = predictor.sampling(image)
    layer = asked.get("layer", -1)
    if "pixel" in asked:
        points = sampling.of_pixel(*asked["pixel"], layer=layer, level=asked.get("level", 0))
    else:
        points = sampling.of_query(asked.get("query"), layer=layer)
    draw_sampling(points.of_head(asked["head"]) if "head" in asked else points, out, zoom=asked.get("zoom", 1.0))
    place = f"{points.part} layer {points.layer} of 0 to {points.layers - 1}"
    return [*_queries(predictor, sampling, asked), f"wrote {out}: {points.query} in {place}"]


def _queries(predictor: Predictor, seen: Attention | Sampling, asked: dict[str, Any]) -> list[str]:
    """The queries of all detections, best first."""
    threshold = asked.get("threshold", predictor.threshold)
    ranked = [query for query in map(int, (-seen.scores).argsort(kind="stable")) if seen.scores[query] >= threshold]
    return [f"query {query}: {seen.names[query]}, score {seen.scores[query]:.2f}" for query in ranked]
