"""What the report says where files that the run keeps were damaged."""

import json

import pytest

from vitjax.runs.judgement import BASELINE
from vitjax.training.verdict import _scored_baseline

STRANGE = [
    "{", "[]", {}, {"scores": {"AP": 0.5}}, {"answer": 3, "scores": {"AP": 0.5}}, {"answer": "a", "scores": ["AP"]},
    {"answer": "a", "scores": {"AP": "high"}}, {"answer": "a", "scores": None},
]  # fmt: skip


@pytest.mark.parametrize("content", STRANGE, ids=str)
def test_a_baseline_that_is_none_is_left_out(tmp_path, content):
    (tmp_path / BASELINE).write_text(content if isinstance(content, str) else json.dumps(content))
    assert _scored_baseline(tmp_path) is None


def test_scores_of_the_baseline_that_are_numbers_are_taken(tmp_path):
    content = {"answer": "two boxes", "scores": {"AP": 0.5, "APs": None}}
    (tmp_path / BASELINE).write_text(json.dumps(content))
    assert _scored_baseline(tmp_path) == ("two boxes", {"AP": 0.5})
