"""Which runner serves which family of golden cases."""

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
    run_proposals,
    run_sampling,
)
from .dino import run_dino, run_dino_training, run_given_features
from .dino_losses import run_dino_loss
from .dino_units import (
    run_box_sine,
    run_denoising,
    run_dino_decoder_layer,
    run_dino_position,
    run_dino_postprocess,
    run_dino_proposals,
    run_query_position,
)
from .golden import Case, GoldenError
from .losses import run_loss
from .masks import run_mask_attention, run_mask_detr, run_mask_head, run_mask_loss, run_object_masks, run_panoptic
from .models import run_backbone, run_deformable, run_detr
from .training import run_training
from .units import run_boxes, run_layer, run_position, run_postprocess
from .zoo_channels import run_gate, run_residual_block, run_se_resnet
from .zoo_images import (
    run_open_sampler,
    run_preactivation_block,
    run_residual_attention,
    run_residual_attention_network,
    run_torch_sampler,
    run_window_attention,
)
from .zoo_maps import (
    run_criss_cross,
    run_criss_cross_head,
    run_dual_attention,
    run_dual_head,
    run_non_local,
    run_self_attention,
)
from .zoo_policy import run_policy

Runner = Callable[[Case], Results]

# Patterns of `model/case`; the first that fits counts.
RUNNERS: dict[str, Runner] = {
    r"backbone_.*": run_backbone,
    r"detr_[^/]*_panoptic.*": run_mask_detr,
    r"detr_.*": run_detr,
    r"deformable_detr_.*": run_deformable,
    r"train_(detr|deformable)_.*": run_training,
    r"(dino/)?dino_.*": run_dino,
    r"(dino/)?train_dino_.*": run_dino_training,
    r"(dino/)?unit_dino_losses/.*": run_dino_loss,
    r"(dino/)?unit_dino/pos_sine.*": run_dino_position,
    r"(dino/)?unit_dino/box_sine.*": run_box_sine,
    r"(dino/)?unit_dino/ref_point_head.*": run_query_position,
    r"(dino/)?unit_dino/decoder_layer.*": run_dino_decoder_layer,
    r"(dino/)?unit_dino/proposals.*": run_dino_proposals,
    r"(dino/)?unit_dino/cdn_.*": run_denoising,
    r"(dino/)?unit_dino/postprocess.*": run_dino_postprocess,
    r"(dino/)?unit_dino/given_features.*": run_given_features,
    r"(dino/)?unit_dino/inverse_sigmoid.*": run_inverse_sigmoid,
    r"crossformer_(det|seg)_.*": run_crossformer_backbone,
    r"crossformer_.*": run_classifier,
    r"train_crossformer_.*": run_classifier_training,
    r"unit_crossformer/cel_.*": run_embedding,
    r"unit_crossformer/dpb_.*": run_position_bias,
    r"unit_crossformer/attention_.*": run_group_attention,
    r"unit_crossformer/block_.*": run_block,
    r"unit_detr_layers/mask_head.*": run_mask_head,
    r"unit_detr_layers/mask_attention.*": run_mask_attention,
    r"unit_detr_layers/(en|de)coder_layer_.*": run_layer,
    r"unit_deformable_layers/(en|de)coder_layer.*": run_deformable_layer,
    r"unit_deformable_layers/input_proj.*": run_input_projection,
    r"unit_deformable_layers/inverse_sigmoid.*": run_inverse_sigmoid,
    r"unit_deformable_layers/encoder_reference_points.*": run_encoder_references,
    r"unit_deformable_two_stage/.*": run_proposals,
    r"unit_msda_core/.*": run_sampling,
    r"unit_msda_module/.*": run_attention,
    r"unit_(detr|deformable)_losses/masks_.*": run_mask_loss,
    r"unit_(detr|deformable)_losses/.*": run_loss,
    r"unit_(detr|deformable)_postprocess/segm_.*": run_object_masks,
    r"unit_(detr|deformable)_postprocess/panoptic_.*": run_panoptic,
    r"unit_(detr|deformable)_postprocess/boxes_.*": run_postprocess,
    r"unit_position_embedding(_deformable)?/.*": run_position,
    r"unit_box_ops/.*": run_boxes,
    r"(zoo/)?unit_self_attention/.*": run_self_attention,
    r"(zoo/)?unit_nonlocal/.*": run_non_local,
    r"(zoo/)?unit_danet_attention/.*": run_dual_attention,
    r"(zoo/)?danet_head/.*": run_dual_head,
    r"(zoo/)?unit_criss_cross/.*": run_criss_cross,
    r"(zoo/)?rcca_module/.*": run_criss_cross_head,
    r"(zoo/)?unit_ran_residual_block/.*": run_preactivation_block,
    r"(zoo/)?unit_ran_attention_module/.*": run_residual_attention,
    r"(zoo/)?ran92_cifar(_pool)?/.*": run_residual_attention_network,
    r"(zoo/)?unit_stn_sampler/.*": run_open_sampler,
    r"(zoo/)?unit_grid_sample_torch/.*": run_torch_sampler,
    r"(zoo/)?unit_swin_window_attention/.*": run_window_attention,
    r"(zoo/)?unit_se_layer/.*": run_gate,
    r"(zoo/)?unit_se_(basic_block_cifar|bottleneck)/.*": run_residual_block,
    r"(zoo/)?se_resnet.*": run_se_resnet,
    r"(zoo/)?hard_attention_policy/.*": run_policy,
}

# Lists of published names that a family in `vitjax.families` has a table of.
KEY_LISTS = re.compile(rf"(deformable_)?detr_.*|dino_r\d+_.*|{PUBLISHED}")
# Lists of residual attention networks: names, or numbers of parameters.
ZOO_LISTS = re.compile(r"ResidualAttentionModel_.*|ran_parameter_counts")


def run(case: Case) -> Results:
    """What the project computes for a case.

    Raises: GoldenError where no runner knows the case.
    """
    runner = next((runner for pattern, runner in RUNNERS.items() if re.fullmatch(pattern, case.id)), None)
    if runner is None:
        raise GoldenError(f"{case.id}: no runner for this case")
    return runner(case)
