"""EfficientNet-Lite written out from its tensors by published names, in NumPy and float64, for one image."""

import math

import numpy as np

STRIDES = {1: 2, 2: 2, 3: 2, 5: 2}  # of timm's stages, counted from 0


def same(length, kernel, stride):
    """TensorFlow's zeros before and after a side."""
    missing = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
    return missing // 2, missing - missing // 2


def symmetric(length, kernel, stride):
    """Torch's zeros before and after a side."""
    return (kernel // 2,) * 2


def patches(x, kernel, stride, pads):
    """What every tap of a kernel sees: [kernel * kernel, rows, columns, channels]."""
    (top, bottom), (left, right) = (pads(side, kernel, stride) for side in x.shape[:2])
    x = np.pad(x, ((top, bottom), (left, right), (0, 0)))
    rows, columns = ((side - kernel) // stride + 1 for side in x.shape[:2])
    taps = [(i, j) for i in range(kernel) for j in range(kernel)]
    return np.stack([x[i:, j:][: rows * stride : stride, : columns * stride : stride] for i, j in taps])


class Published:
    """The network of a file of timm: names are timm's."""

    def __init__(self, tensors, *, epsilon=1e-3, pads=same):
        self.tensors = {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
        self.epsilon, self.pads = epsilon, pads

    def norm(self, x, name):
        scale, bias, mean, var = (
            self.tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + self.epsilon) * scale + bias

    def active(self, x, name):
        return np.clip(self.norm(x, name), 0, 6)

    def pointwise(self, x, name):
        return x @ self.tensors[f"{name}.weight"][:, :, 0, 0].T

    def depthwise(self, x, name, stride):
        kernel = self.tensors[f"{name}.weight"]
        taps = kernel[:, 0].transpose(1, 2, 0).reshape(-1, 1, 1, len(kernel))
        return (patches(x, kernel.shape[-1], stride, self.pads) * taps).sum(0)

    def block(self, x, stage, block):
        name, stride = f"blocks.{stage}.{block}", 1 if block else STRIDES.get(stage, 1)
        if stage == 0:
            y = self.active(self.depthwise(x, f"{name}.conv_dw", stride), f"{name}.bn1")
            y = self.norm(self.pointwise(y, f"{name}.conv_pw"), f"{name}.bn2")
        else:
            y = self.active(self.pointwise(x, f"{name}.conv_pw"), f"{name}.bn1")
            y = self.active(self.depthwise(y, f"{name}.conv_dw", stride), f"{name}.bn2")
            y = self.norm(self.pointwise(y, f"{name}.conv_pwl"), f"{name}.bn3")
        return x + y if x.shape == y.shape else y

    def features(self, pixels):
        """Maps at strides 4, 8, 16 and 32 of normalised pixels [height, width, 3]."""
        seen = patches(pixels.astype(np.float64), 3, 2, self.pads)
        kernel = self.tensors["conv_stem.weight"].transpose(2, 3, 1, 0).reshape(9, 3, -1)
        x, maps = self.active(np.einsum("nhwi,nio->hwo", seen, kernel), "bn1"), []
        for stage in range(7):
            block = 0
            while f"blocks.{stage}.{block}.conv_dw.weight" in self.tensors:
                x, block = self.block(x, stage, block), block + 1
            maps.append(x)
        return [maps[i] for i in (1, 2, 4, 6)]

    def head(self, pixels):
        """What a classifier makes of the last map."""
        return self.active(self.pointwise(self.features(pixels)[-1], "conv_head"), "bn2")

    def logits(self, pixels):
        """Of the classes."""
        pooled = self.head(pixels).mean((0, 1))
        return self.tensors["classifier.weight"] @ pooled + self.tensors["classifier.bias"]


def timm_names(tensors, blocks):
    """The tensors of the port, whose blocks are in a row, by timm's names; `blocks` are those of each stage."""
    places = [(stage, block) for stage, length in enumerate(blocks) for block in range(length)]
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    later = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    later |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    outside = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    renamed = {}
    for name, tensor in tensors.items():
        part, leaf = name.rsplit(".", 1)
        if part.startswith("_blocks."):
            stage, block = places[int(part.split(".")[1])]
            part = f"blocks.{stage}.{block}.{(later if stage else first)[part.split('.')[2]]}"
        else:
            part = outside[part]
        renamed[f"{part}.{leaf}"] = tensor
    return renamed
