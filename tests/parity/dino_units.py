"""DINO's parts by themselves: denoising queries, positions, a decoder layer, proposals, post-processing."""

import jax
import jax.numpy as jnp
import numpy as np

from vitjax.detection.deformable_decoder import DeformableDecoderLayer
from vitjax.detection.deformable_encoder import Memory
from vitjax.detection.dino import DINO, QueryPosition
from vitjax.detection.postprocess import TopDetections
from vitjax.detection.proposals import candidates
from vitjax.families.dino import NAMES
from vitjax.formats.tables import from_published
from vitjax.ops.padded_maps import valid_ratio
from vitjax.ops.positions import sine, sine_of_boxes

from .comparison import Results
from .deformable import shapes_of_levels
from .dino import denoised, queries_of
from .golden import Case, GoldenError
from .losses import targets_of
from .models import nchw


def run_denoising(case: Case) -> Results:
    """Content, boxes, labels and mask of denoising queries, of noise that is given."""
    settings = case.settings
    settings.read |= {"num_classes", "hidden_dim", "num_queries", "dn_number", "dn_label_noise_ratio"}
    targets = targets_of(case.inputs(), len(settings["boxes_per_image"]))
    noise = {"label_noise": settings["dn_label_noise_ratio"], "box_noise": settings["dn_box_noise_scale"]}
    model = DINO(num_classes=settings["num_classes"], num_queries=settings["num_queries"], **noise)
    (embedding,) = case.weights().values()
    return Results(queries_of(denoised(case, targets), targets, embedding, model))


def run_box_sine(case: Case) -> Results:
    """The sines of boxes, in the order that the query position has them."""
    settings, boxes = case.settings, case.inputs()["boxes"]
    settings.read |= {"scale", "order"}
    options = {"channels": settings["num_feats_per_coordinate"], "temperature": float(settings["temperature"])}
    sines = sine_of_boxes(boxes[..., jnp.array([1, 0, 2, 3])], **options)
    return Results({"sine4": sines, "sine2": sines[..., : 2 * options["channels"]]})


def run_dino_position(case: Case) -> Results:
    """The sine embedding of the levels."""
    settings, mask = case.settings, case.inputs()["mask"]
    settings.read |= {"normalize"}
    if settings["temperatureH"] != settings["temperatureW"]:
        raise GoldenError(f"{case.id}: rows and columns have one temperature here")
    temperature = float(settings["temperatureH"])
    options = {"temperature": temperature, "normalize": settings["normalize"]}
    position = jax.jit(lambda mask: sine(~mask, 2 * settings["num_pos_feats"], **options))(mask)
    return Results({"pos": nchw(position)}, {"pos": mask[:, None]})


def run_query_position(case: Case) -> Results:
    """What the place of a query adds to it."""
    case.settings.read |= {"layers", "aliases"}
    boxes, module = case.inputs()["boxes"], QueryPosition(case.settings["d_model"])
    state = {f"transformer.decoder.ref_point_head.{name}": value for name, value in case.weights().items()}
    params = from_published(state, table=NAMES)["params"]["query_position"]
    return Results({"query_pos": jax.jit(module.apply)({"params": params}, boxes)})


def run_dino_decoder_layer(case: Case) -> Results:
    """One decoder layer with a mask among its queries."""
    inputs, settings = case.inputs(), case.settings
    settings.read |= {"order", "aliases", "activation", "d_model"}
    shapes = shapes_of_levels(settings["spatial_shapes"])
    module = DeformableDecoderLayer(
        settings["n_heads"], settings["d_ffn"], levels=settings["n_levels"], points=settings["n_points"]
    )
    padding = inputs.get("padding_mask", jnp.zeros(inputs["memory"].shape[:2], bool))
    memory = Memory(inputs["memory"], ~padding, jnp.ones((len(padding), len(shapes), 2)), shapes)
    pairs = ~inputs["self_attn_mask"] if "self_attn_mask" in inputs else None
    state = {f"transformer.decoder.layers.0.{name}": value for name, value in case.weights().items()}
    params = from_published(state, table=NAMES)["params"]["decoder"]["layer_0"]
    arguments = (inputs["tgt"], inputs["query_pos"], inputs["reference_points"], memory, None, pairs)
    return Results({"y": jax.jit(lambda p, *x: module.apply({"params": p}, *x, False))(params, *arguments)})


def run_dino_proposals(case: Case) -> Results:
    """The tokens that propose, and the boxes around them before their change."""
    inputs, shapes = case.inputs(), shapes_of_levels(case.settings["spatial_shapes"])
    case.settings.read |= {"base_wh"}
    valid = ~inputs.get("padding_mask", jnp.zeros(inputs["memory"].shape[:2], bool))
    ends = np.cumsum([height * width for height, width in shapes])[:-1]
    maps = zip(jnp.split(valid, ends, axis=1), shapes, strict=True)
    ratios = jnp.stack([valid_ratio(level.reshape(-1, *shape)) for level, shape in maps], axis=1)
    tokens, anchors = jax.jit(candidates)(Memory(inputs["memory"], valid, ratios, shapes))
    values = {"output_memory": tokens, "proposals_sigmoid": jax.nn.sigmoid(anchors), "infinite": jnp.isinf(anchors)}
    return Results(values | {"infinite": np.isinf(anchors).any(-1)})


def run_dino_postprocess(case: Case) -> Results:
    """The best pairs of query and class, in pixels of the original image."""
    if case.settings["nms_iou_threshold"] != -1:
        raise GoldenError(f"{case.id}: the model suppresses nothing")
    inputs = case.inputs()
    postprocess = TopDetections(k=case.settings["num_select"])
    detections = jax.jit(postprocess)(*(inputs[name] for name in ("pred_logits", "pred_boxes", "target_sizes")))
    return Results({"scores": detections.scores, "labels": detections.labels, "boxes": detections.boxes})
