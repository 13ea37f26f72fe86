"""Which picture suits a model, and which options go with it."""

import types
from pathlib import Path

import pytest

from vitjax.errors import FieldError
from vitjax.explain.explain import KINDS, explain

# What a model or its backbone says that can be explained -> what is drawn, of all of it and of a stage of its backbone.
MODELS = {
    ("attention",): ("attention", "looks"),
    ("sampling",): ("sampling", "looks"),
    ("sampling", "groups"): ("sampling", "groups"),
    ("groups",): ("groups", "groups"),
    (): ("looks", "looks"),
}
NAMES = {"attention": "attention.png", "sampling": "sampling.png", "groups": "groups.png", "looks": "attention.png"}


def subject(says):
    return types.SimpleNamespace(has=says.__contains__)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn in place of a picture: its kind, its path, and what is asked."""
    calls = []
    for kind, (*about, _) in KINDS.items():

        def draw(subject, image, out, asked, kind=kind):
            calls.append((kind, out, asked))
            return [kind]

        monkeypatch.setitem(KINDS, kind, (*about, draw))
    return calls


@pytest.mark.parametrize("says", MODELS, ids=" and ".join)
def test_what_queries_look_at_is_drawn_or_else_or_where_a_stage_is_named_what_the_backbone_does(says, drawn):
    whole, backbone = MODELS[says]
    assert explain(subject(says), "a.png", None, query=None, stage=None) == [whole]
    assert explain(subject(says), "a.png", "b.pdf", stage=2) == [backbone]
    assert drawn == [(whole, Path(NAMES[whole]), {}), (backbone, Path("b.pdf"), {"stage": 2})]


def test_a_block_is_one_of_the_backbone(drawn):
    assert explain(subject(("sampling", "groups")), "a.png", None, block=0) == ["groups"]


def test_what_is_asked_with_zero_is_asked(drawn):
    explain(subject(("attention",)), "a.png", None, query=0, layer=0, threshold=0.0, head=None)
    assert drawn[0][2] == {"query": 0, "layer": 0, "threshold": 0.0}


@pytest.mark.parametrize(
    ("says", "asked", "words"),
    [
        (("attention",), {"zoom": 2.0}, r"--zoom is not for the attention of a DETR; these take --query, --pixel"),
        (("groups",), {"query": 1}, r"--query is not for the groups of a CrossFormer; these take --pixel, --stage"),
        (("attention",), {"block": 1}, r"--block is not for the attention modules of a backbone; these take --pixel"),
        (("sampling",), {"query": 1, "pixel": (0, 0)}, r"--query or --pixel, not both"),
    ],
)
def test_an_option_that_goes_with_another_picture_is_refused_with_those_that_go(says, asked, words, drawn):
    with pytest.raises(FieldError, match=words):
        explain(subject(says), "a.png", None, **asked)
    assert drawn == []
