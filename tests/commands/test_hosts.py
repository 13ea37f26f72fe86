"""The words that say on which hosts a command runs."""

import pytest

from vitjax.commands.hosts import Place, without_hosts
from vitjax.errors import FieldError

ALL = ["--hosts", "2", "--host", "1", "--coordinator", "node0:1234"]


def test_without_them_a_command_runs_as_it_did():
    assert without_hosts(["detr", "--epochs", "2"]) == (["detr", "--epochs", "2"], None)


@pytest.mark.parametrize("words", [ALL, ["--hosts=2", "--coordinator=node0:1234", "--host=1"]])
def test_a_place_is_taken_out_of_the_words_wherever_it_stands(words):
    assert without_hosts(["detr", *words, "--epochs", "2"]) == (["detr", "--epochs", "2"], Place("node0:1234", 2, 1))


def test_auto_leaves_all_to_the_environment():
    assert without_hosts(["--hosts", "auto", "detr"]) == (["detr"], Place())


@pytest.mark.parametrize(
    "words, said",
    [
        (["--hosts"], "takes one value"),
        (["--hosts", "2"], "--host --coordinator is missing"),
        (["--host", "0"], "--hosts --coordinator is missing"),
        ([*ALL, "--host", "0"], "takes one value, once"),
        (["--hosts", "auto", "--host", "0"], "--coordinator is missing"),
        ([*ALL[:3], "2", *ALL[4:]], "0 to 1 for --hosts 2; got 2"),
        ([*ALL[:3], "-1", *ALL[4:]], "whole numbers; got 2 and -1"),
        (["--hosts", "0", "--host", "0", *ALL[4:]], "got 0"),
        ([*ALL[:5], "node0"], "HOST:PORT of host 0"),
        ([*ALL[:5], "node0:99999"], "HOST:PORT of host 0"),
        ([*ALL[:5], ":1234"], "HOST:PORT of host 0"),
    ],
)
def test_what_means_nothing_is_refused(words, said):
    with pytest.raises(FieldError, match=said):
        without_hosts(["detr", *words])
