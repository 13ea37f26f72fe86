"""Numbers of the transformers library beside ours, where it and torch are installed; elsewhere there is no test."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick import drawn

from vitjax.backbones.resnet import ResNet
from vitjax.data.source import Classes
from vitjax.data.transforms import Resize
from vitjax.detection.deformable_detr import DeformableDETR
from vitjax.detection.detr import DETR
from vitjax.detection.postprocess import BestClass, TopDetections
from vitjax.families.huggingface.folder import read_folder, write_folder
from vitjax.families.model_file import ModelFile
from vitjax.structs import Images

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CLASSES = Classes(("", "cat", "dog"), (0, 1, 2))
SMALL = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
SMALL |= {
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 6,
    "id2label": {0: "cat", 1: "dog"},
}
TWO_STAGE = {"with_box_refine": True, "two_stage": True, "two_stage_num_proposals": 6}
OURS = {"num_classes": 3, "num_queries": 6, "channels": 32, "heads": 2, "feed_forward": 24}
OURS |= {"encoder_layers": 2, "decoder_layers": 2}
TINY = ResNet(depth=18, width=8, stage_blocks=(1, 1, 2, 1))


def backbone(*stages: int) -> dict:
    sizes = {"embedding_size": 8, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 2, 1]}
    return {"model_type": "resnet", **sizes, "out_features": [f"stage{stage}" for stage in stages]}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Two images, of which the second is padded below and on the right."""
    pixels = np.random.default_rng(0).standard_normal((2, 96, 128, 3), dtype=np.float32)
    valid = np.ones((2, 96, 128), bool)
    valid[1, 64:] = valid[1, :, 96:] = False
    return pixels * valid[..., None], valid


def our_numbers(file: ModelFile) -> tuple[np.ndarray, np.ndarray]:
    """Logits and boxes of the last layer, padding leaking as it does there."""
    pixels, valid = images()
    model = file.model.clone(padding="reference")
    run = jax.jit(lambda variables, given: model.apply(variables, given, train=False))
    found = run(file.variables, Images(jnp.asarray(pixels), jnp.asarray(valid)))
    return np.asarray(found.logits[-1]), np.asarray(found.boxes[-1])


def their_numbers(model) -> tuple[np.ndarray, np.ndarray]:
    pixels, valid = images()
    with torch.no_grad():
        found = model.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(valid).long())
    return found.logits.numpy(), found.pred_boxes.numpy()


def assert_same(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.std() > 1e-3
        np.testing.assert_allclose(mine, other, atol=1e-4)


def their_model(kind: str, config: dict):
    """A model of theirs in which nothing is neutral."""
    torch.manual_seed(0)
    name = {"detr": "Detr", "deformable_detr": "DeformableDetr"}[kind]
    settings = getattr(transformers, f"{name}Config")(**SMALL, **config)
    model = getattr(transformers, f"{name}ForObjectDetection")(settings)
    with torch.no_grad():
        for path, array in [*model.named_parameters(), *model.named_buffers()]:
            if path.endswith("running_var"):
                array.uniform_(0.5, 2)
            elif array.is_floating_point():
                array.add_(torch.randn_like(array) * 0.1)
    return model


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        pytest.param("detr", {"backbone_config": backbone(1, 2, 3, 4)}, id="detr"),
        pytest.param("detr", {"backbone_config": backbone(4), "position_embedding_type": "learned"}, id="learned"),
        pytest.param("deformable_detr", {"backbone_config": backbone(2, 3, 4)}, id="multi_scale"),
        pytest.param("deformable_detr", {"backbone_config": backbone(4), "num_feature_levels": 1}, id="single_scale"),
        pytest.param("deformable_detr", {"backbone_config": backbone(2, 3, 4), "with_box_refine": True}, id="refine"),
        pytest.param("deformable_detr", {"backbone_config": backbone(2, 3, 4), **TWO_STAGE}, id="two_stage"),
    ],
)
def test_what_the_library_saves_gives_the_same_numbers_here(kind, config, tmp_path):
    model = their_model(kind, config)
    model.save_pretrained(tmp_path)
    assert_same(our_numbers(read_folder(tmp_path)), their_numbers(model))


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(DETR(backbone=TINY, **OURS), id="detr"),
        pytest.param(DETR(backbone=TINY, position="learned", **OURS), id="learned"),
        pytest.param(DeformableDETR(backbone=TINY, **OURS), id="multi_scale"),
        pytest.param(DeformableDETR(backbone=TINY, levels=1, backbone_levels=1, **OURS), id="single_scale"),
        pytest.param(DeformableDETR(backbone=TINY, refine=True, **OURS), id="refine"),
        pytest.param(DeformableDETR(backbone=TINY, refine=True, two_stage=True, **OURS), id="two_stage"),
    ],
)
def test_what_is_written_here_gives_the_same_numbers_in_the_library(model, tmp_path):
    pixels, valid = images()
    given = Images(jnp.asarray(pixels), jnp.asarray(valid))
    variables = drawn(jax.eval_shape(lambda: model.init(jax.random.key(0), given, train=False)))
    postprocess = BestClass() if isinstance(model, DETR) else TopDetections()
    file = ModelFile(model, variables, CLASSES, Resize(480, 640), postprocess)
    write_folder(tmp_path / "folder", file)
    loaded, notes = transformers.AutoModelForObjectDetection.from_pretrained(
        tmp_path / "folder", output_loading_info=True
    )
    assert not any(notes.values()), notes
    assert loaded.config.id2label == {0: "N/A", 1: "cat", 2: "dog"}
    assert_same(our_numbers(file), their_numbers(loaded))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder")
    pixels = processor(np.zeros((100, 150, 3), np.uint8), return_tensors="np")["pixel_values"]
    assert pixels.shape[2:] == tuple(Resize(480, 640).geometries(np.array([[100, 150]])).output[0])
