"""Which runner serves which family of golden cases, and which families the project does not have yet."""

import re
from collections.abc import Callable

from .comparison import Results
from .crossformer import (
    PUBLISHED,
    run_block,
    run_classifier,
    run_crossformer_backbone,
    run_embedding,
    run_group_attention,
    run_position_bias,
)
from .crossformer_training import run_classifier_training
from .deformable import (
    run_attention,
    run_deformable_layer,
    run_encoder_references,
    run_input_projection,
    run_inverse_sigmoid,
    run_sampling,
)
from .golden import Case, GoldenError
from .losses import run_loss
from .models import run_backbone, run_deformable, run_detr
from .training import run_training
from .units import run_boxes, run_layer, run_position, run_postprocess
from .zoo_channels import run_gate, run_residual_block, run_se_resnet

Runner = Callable[[Case], Results]

# Patterns of `model/case`; the first that fits counts. Take a line out when the family is built.
ABSENT = {
    "segmentation": r"unit_detr_layers/mask_.*",
    "non-local, dual and criss-cross attention": r"(zoo/)?(unit_(nonlocal|danet_attention|criss_cross|self_attention)"
    r"|danet_head|rcca_module)/.*",
    "residual and window attention, spatial transformers": r"(zoo/)?(unit_(ran_|stn_|grid_sample_|swin_)[^/]*"
    r"|ran\d*[^/]*)/.*",
    "hard attention": r"(zoo/)?hard_attention_policy/.*",
}

RUNNERS: dict[str, Runner] = {
    r"backbone_.*": run_backbone,
    r"detr_.*": run_detr,
    r"deformable_detr_.*": run_deformable,
    r"train_(detr|deformable)_.*": run_training,
    r"crossformer_(det|seg)_.*": run_crossformer_backbone,
    r"crossformer_.*": run_classifier,
    r"train_crossformer_.*": run_classifier_training,
    r"unit_crossformer/cel_.*": run_embedding,
    r"unit_crossformer/dpb_.*": run_position_bias,
    r"unit_crossformer/attention_.*": run_group_attention,
    r"unit_crossformer/block_.*": run_block,
    r"unit_detr_layers/(en|de)coder_layer_.*": run_layer,
    r"unit_deformable_layers/(en|de)coder_layer.*": run_deformable_layer,
    r"unit_deformable_layers/input_proj.*": run_input_projection,
    r"unit_deformable_layers/inverse_sigmoid.*": run_inverse_sigmoid,
    r"unit_deformable_layers/encoder_reference_points.*": run_encoder_references,
    r"unit_msda_core/.*": run_sampling,
    r"unit_msda_module/.*": run_attention,
    r"unit_(detr|deformable)_losses/.*": run_loss,
    r"unit_(detr|deformable)_postprocess/boxes_.*": run_postprocess,
    r"unit_position_embedding(_deformable)?/.*": run_position,
    r"unit_box_ops/.*": run_boxes,
    r"(zoo/)?unit_se_layer/.*": run_gate,
    r"(zoo/)?unit_se_(basic_block_cifar|bottleneck)/.*": run_residual_block,
    r"(zoo/)?se_resnet.*": run_se_resnet,
}

# Lists of published names that have a table in `vitjax.checkpoints.tables`.
KEY_LISTS = re.compile(rf"(deformable_)?detr_(?!.*panoptic).*|{PUBLISHED}")


def absent_family(case: Case) -> str | None:
    """The family of a case if the project does not have it yet."""
    family = next((family for family, pattern in ABSENT.items() if re.fullmatch(pattern, case.id)), None)
    if family is None and (case.manifest.get("config", {}).get("masks") or predicts_masks(case)):
        return "segmentation"
    return family


def predicts_masks(case: Case) -> bool:
    """Whether a case of the losses or the post-processing is about masks."""
    arrays = case.manifest["cases"][case.name]["arrays"]
    return re.match(r"unit_(detr|deformable)_(losses|postprocess)/", case.id) is not None and any(
        "mask" in name for name in arrays
    )


def run(case: Case) -> Results:
    """What the project computes for a case.

    Raises: GoldenError where no runner knows the case.
    """
    runner = next((runner for pattern, runner in RUNNERS.items() if re.fullmatch(pattern, case.id)), None)
    if runner is None:
        raise GoldenError(f"{case.id}: no runner for this case, and its family is not listed as absent")
    return runner(case)
