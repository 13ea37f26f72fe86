"""What the commands take, each as one dataclass: fields are flags, and what is said of them is the help."""

import dataclasses
from typing import Literal

import tyro


@dataclasses.dataclass(frozen=True)
class PredictArguments:
    """Predicts on images and videos. A detector writes a picture with boxes for each and predictions.json in
    COCO-results form; of a classifier the best classes of each image are printed, with their probabilities, and written
    to predictions.json. Of a segmentation model the pictures have the labels in colours, the folder labels the label
    maps, and predictions.json the share of each class. Of videos the results have the frame and its time; a detector
    also writes an MP4 with boxes, of the same frame rate and size (small ones enlarged until the tags are legible) and
    without the sound.
    """

    model: tyro.conf.Positional[str]
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    images: tyro.conf.Positional[tuple[str, ...]]
    """Images, videos (mp4, avi, mov, mkv, webm, m4v), folders of them, and quoted patterns: '*.jpg', '**/*.png'."""
    out: str = "predictions"
    """Folder for the pictures and the results."""
    threshold: float | None = None
    """Lowest score of a box in the pictures; that of the run's post-processing if left out. The results have all."""
    top: int | None = None
    """Most boxes per image, in pictures and results, 100 if left out; most classes per image, 5 if left out."""
    nms: float | None = None
    """Of boxes of one class whose IoU is above this only the best is kept; all are if left out, as DETR needs none."""
    every: int = 1
    """Looks at every Nth frame of a video only; the boxes stay until the next."""
    csv: bool = False
    """Also writes predictions.csv: file, frame, label, name, score, and corners in pixels, or the rank of a class."""
    batch_size: int = 8
    """Images that are run at once."""
    workers: int = 0
    """Processes that read images; 0 does it in a thread."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""


@dataclasses.dataclass(frozen=True)
class ConvertArguments:
    """Writes a model in another layout: a run folder, an official file, or a folder that transformers loads.

    Weights come back to the last bit. A file that is there is replaced once all is written; folders must be new.
    """

    model: tyro.conf.Positional[str]
    """Run folder; official .pth, .safetensors or .npz file; or a folder or repository in Hugging Face's layout."""
    out: tyro.conf.Positional[str]
    """What to write: a name in .pth or .safetensors for the official layout, any other for a run folder."""
    to: Literal["run", "official", "huggingface"] | None = None
    """Layout of what is written; by the name of `out` if left out."""
    step: int | None = None
    """Checkpoint of a run folder to use; the best one if left out."""


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Writes a trained model as a folder that runs without vitjax on CPU, CUDA and TPU: one StableHLO program with the
    parameters inside, model.json that describes it, and run.py that runs it. docs/export.md tells more."""

    model: tyro.conf.Positional[str]
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    out: tyro.conf.Positional[str]
    """Folder to write; an earlier export there is replaced once the new one has passed the parity check."""
    size: tuple[int, int] | None = None
    """Height and width of the frames that images come in; those of the model's evaluation if left out."""
    batch_size: int | None = None
    """Fixes the number of images per call; any number if left out."""
    preprocess: bool = True
    """The program takes RGB bytes and normalises them; without, it takes normalised pixels and a mask."""
    postprocess: bool = True
    """The program gives detections in pixels, or the best classes; without, logits and relative boxes."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""


@dataclasses.dataclass(frozen=True)
class DoctorArguments:
    """Looks through a data folder for what would hurt training, and says what to do about it: COCO format, or a folder
    of images for each class. The exit code is 0 if there is nothing beyond notes, 1 with warnings, 2 with errors."""

    data: tyro.conf.Positional[str]
    """The folder."""
    split: str | None = None
    """The one split to look at; all that are there if left out."""
    queries: int = 100
    """Queries of the model: no more objects can be found on an image."""
    decode: bool = False
    """Decode every image, not just read its header."""
    size: tuple[int, int] = (800, 1333)
    """Shorter side that images are resized to, and the most that the longer may become."""
    batch_size: int = 16
    """Images of a training step, for the padding."""


@dataclasses.dataclass(frozen=True)
class ExplainArguments:
    """Draws what a model looks at in an image, by its kind. DETR: what the query of its best detection, another query,
    or the encoder's token at a pixel attends to. Deformable DETR: where they sample, on every level. CrossFormer, in a
    classifier or with --stage in a detector: which tokens share a group with a pixel's, and their attention weights.
    Other classifiers and segmenters, and with --stage the backbones of other detectors: what each attention module does
    for a pixel; --stage 0 takes all that a backbone has, a spatial transformer in front too."""

    model: tyro.conf.Positional[str]
    """Run folder, published file, or folder or repository in Hugging Face's layout."""
    image: tyro.conf.Positional[str]
    """The image."""
    query: int | None = None
    """Decoder query; that of the best detection if left out. The queries of all detections are printed."""
    pixel: tuple[int, int] | None = None
    """X and Y of a pixel of the image, in place of a decoder query; for groups and modules the middle if left out."""
    level: int | None = None
    """Of Deformable DETR with --pixel, the level whose token holds it; the finest, 0, if left out."""
    layer: int | None = None
    """Layer of the decoder (with --pixel, of the encoder); the first is 0, the last is -1, which is the default."""
    head: int | None = None
    """The one attention head to draw; all, or their mean, if left out."""
    stage: int | None = None
    """Stage of the backbone, 0 for all (of others than CrossFormer); if left out a detector's decoder, a CrossFormer's
    stage 1, or every module."""
    block: int | None = None
    """Block of the stage, from 0; the first with short and the first with long distance groups if left out."""
    zoom: float | None = None
    """Of Deformable DETR, how many times the picture is enlarged around the reference point; 1 if left out."""
    threshold: float | None = None
    """Lowest score of the detections that are printed; that of the run's post-processing if left out."""
    out: str | None = None
    """Picture to write: .png, .pdf or .svg; attention.png, sampling.png or groups.png, by its kind, if left out."""
    step: int | None = None
    """Checkpoint to use; the best one if left out."""
