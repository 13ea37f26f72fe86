"""The commands of docs/scale.md are such as the command line takes."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from vitjax.commands.hosts import without_hosts
from vitjax.runs.configs import load_config, override
from vitjax.runs.short_words import without_short_words

DOC = (Path(__file__).resolve().parent.parent / "docs" / "scale.md").read_text(encoding="utf-8")
BLOCKS = dict.fromkeys(("sh", "yaml"), "")
BLOCKS |= {kind: "\n".join(re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)) for kind in BLOCKS}
SERVICE, JOB = yaml.safe_load_all(BLOCKS["yaml"])
POD = JOB["spec"]["template"]["spec"]
TRAIN = [shlex.split(line)[1:] for line in re.findall(r"(?:train\.py|vitjax train) .+", BLOCKS["sh"])]
TRAIN = [words[1:] if words[0] == "train" else words for words in TRAIN] + [POD["containers"][0]["args"][1:]]


@pytest.mark.parametrize("words", TRAIN, ids=str)
def test_every_command_that_trains_is_taken(words):
    if "--hosts" in words:
        words, place = without_hosts([word.replace("$(JOB_COMPLETION_INDEX)", "3") for word in words])
        assert place is not None
    fields, asked = without_short_words(words[1:])
    experiment = asked.of(override(load_config(words[0]), fields))
    assert experiment.batch_size == 64 and experiment.data.root and experiment.init_from and experiment.workdir


def test_the_page_has_a_command_for_every_place():
    assert len(TRAIN) == 7 and sum("--hosts" in words for words in TRAIN) == 5


@pytest.mark.parametrize("flag", re.findall(r"`(--[\w.-]+)", "".join(re.findall(r"^\| `--.*?\|", DOC, re.MULTILINE))))
def test_every_field_that_brings_memory_down_is_taken(flag):
    name = {"--model.backbone.remat": "crossformer_pp_huge_imagenet"}.get(flag, "detr_resnet50_dc5_coco")
    value = [] if flag.endswith(("remat", "fsdp")) else ["bfloat16" if flag == "--precision" else "512"]
    fields, asked = without_short_words([flag, *value, "--batch-size", "512"])
    assert asked.of(override(load_config(name), fields)) != load_config(name).experiment


def test_the_pods_find_each_other_by_the_service():
    words = POD["containers"][0]["args"]
    name, hosts = SERVICE["metadata"]["name"], JOB["spec"]["completions"]
    assert POD["subdomain"] == name and SERVICE["spec"]["selector"] == {"job-name": JOB["metadata"]["name"]}
    assert words[words.index("--hosts") + 1] == str(hosts) == str(JOB["spec"]["parallelism"])
    assert words[-1].startswith(f"{JOB['metadata']['name']}-0.{name}:")


def test_the_pods_volumes_are_those_that_are_mounted():
    mounts = {mount["name"] for mount in POD["containers"][0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in POD["volumes"]}
