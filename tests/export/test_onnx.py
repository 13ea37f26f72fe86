"""The ONNX file: what the converter is given means the same, and where it can be made it says what the model says."""

import importlib.util
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from export.test_export import model_file
from flax import linen as nn
from jax import lax

from vitjax.classification.postprocess import TopClasses
from vitjax.data.crops import CenterCrop
from vitjax.data.errors import DataError
from vitjax.errors import FieldError
from vitjax.export import export, onnx
from vitjax.export.export import export_model
from vitjax.export.onnx import converted, evaluated
from vitjax.export.program import Program

HERE = all(importlib.util.find_spec(name) for name in onnx.PACKAGES)


class Pooling(nn.Module):
    """A classifier with what the converter does not take as it is."""

    padding: str = "exact"
    task = "classification"

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(3, (3, 3), name="stem")(images.pixels))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=[(1, 1), (1, 1)])
        x = jnp.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), constant_values=-0.5)
        return lax.platform_dependent(x.mean((1, 2)), tpu=lambda y: y + 1, default=lambda y: 2 * y)


@pytest.fixture(scope="module")
def classifier():
    return model_file(Pooling(), resize=CenterCrop(32, 36), postprocess=TopClasses(2))


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda each: hasattr(each, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from primitives(inner.jaxpr)


@pytest.mark.parametrize(("window", "step", "pad"), [((3, 3), 2, (1, 1)), ((2, 3), 3, (0, 2)), ((1, 1), 1, (0, 0))])
def test_what_is_converted_gives_the_same_without_padding_pools_and_platforms(window, step, pad):
    def function(x):
        x = nn.max_pool(nn.relu(x) - 2, window, strides=(step, step), padding=[pad, pad[::-1]])
        x = lax.pad(x, jnp.float32(-1), ((0, 0, 0), (0, 2, 0), (1, 0, 0), (0, 0, 0)))
        x = jnp.concatenate([x[:, :0], x, x[:, :, 0:0].sum(2, keepdims=True).repeat(x.shape[2], 2)], 1)
        return lax.platform_dependent(x, tpu=lambda y: y + 1, default=lambda y: 2 * y)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 9, 11, 3)), jnp.float32)
    traced = jax.make_jaxpr(function)(x)
    plain = jax.make_jaxpr(lambda x: evaluated(traced.jaxpr, traced.consts, [x]))(x)
    banned = {"pad", "reduce_window_max", "platform_index", "cond", "custom_jvp_call"}
    assert {"pad", "reduce_window_max", "platform_index"} <= set(primitives(traced.jaxpr))
    assert not banned & set(primitives(plain.jaxpr))
    np.testing.assert_array_equal(jax.core.eval_jaxpr(plain.jaxpr, plain.consts, x)[0], function(x))


def test_without_the_packages_it_is_refused_before_anything_is_done(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx, "PACKAGES", ("jax2onnx-of-nobody",))
    with pytest.raises(FieldError, match=r"--onnx needs jax2onnx-of-nobody: pip install 'vitjax\[onnx\]'\. Without"):
        export_model(classifier, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_a_file_that_says_something_else_is_refused_and_nothing_is_written(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "require_packages", lambda: None)
    monkeypatch.setattr(export, "converted", lambda program, batch: b"file")
    monkeypatch.setattr(export, "runner", lambda content: lambda *_: {})
    found = iter([{"scores": 0.0, "labels": 0.0}, {"scores": 2e-4, "labels": 0.0}])
    monkeypatch.setattr(export, "differences", lambda *_: next(found))
    with pytest.raises(DataError, match=r"the exported ONNX file differs from the model: scores by 2\.0e-04"):
        export_model(classifier, tmp_path / "out", batch_size=1, onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not HERE, reason="needs vitjax[onnx]")
def test_the_file_says_in_onnxruntime_what_the_model_says(classifier, tmp_path):
    done = export_model(classifier, tmp_path / "out", batch_size=2, onnx=True)
    about = json.loads((done.out / "model.json").read_text(encoding="utf-8"))
    assert max(about["onnx"]["differences"].values()) < 1e-5 and about["onnx"]["batch"] == 2
    call = onnx.runner((done.out / "model.onnx").read_bytes())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = call(images, np.full((2, 2), 32, np.int32))
    assert found["scores"].shape == (2, 2)


def test_what_the_converter_does_not_know_is_told_in_one_line(classifier, tmp_path, monkeypatch):
    def to_onnx(*given, **options):
        raise NotImplementedError("No plugins registered for primitive 'sorting'\n\nand much more")

    monkeypatch.setattr(onnx, "require_packages", lambda: None)
    monkeypatch.setitem(sys.modules, "jax2onnx", types.SimpleNamespace(to_onnx=to_onnx))
    program = Program(classifier.model, classifier.variables, 32, 32, True, classifier.postprocess)
    with pytest.raises(
        DataError, match=r"convert this model \(No plugins registered for primitive 'sorting'\)\. Export"
    ):
        converted(program, 1)
