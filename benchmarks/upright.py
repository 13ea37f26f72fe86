"""How far spatial transformers turn digits upright: the angle at which they read a canvas beside that of its digit.

    python benchmarks/upright.py runs/zoo/zoo_spatial_transformer_digits_0 runs/zoo/zoo_spatial_transformer_digits_1

Both angles are counterclockwise: a share of 1 is a canvas that is read exactly upright, 0 one that is read as it is.
"""

import argparse
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vitjax.explain.seen_image import see
from vitjax.ops.images import images_of
from vitjax.runs.configs import load_config
from vitjax.runs.initial import read_weights

CANVASES = 500


def main() -> None:
    """Print, for each run, how the two angles go together and how much is enlarged."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of zoo_spatial_transformer_digits")
    runs = parser.parse_args().runs
    experiment = load_config("zoo_spatial_transformer_digits").experiment
    canvases = experiment.data.open("val")
    seen = [see(canvases[i].image, canvases.classes, experiment.resize)[1] for i in range(CANVASES)]
    images = images_of(jax.tree.map(lambda *parts: jnp.concatenate(parts), *seen))
    angles = np.array([canvases.degrees(i) for i in range(CANVASES)])
    transformer = experiment.model.backbone.transformer
    for run in runs:
        params = read_weights(run).variables["params"]["backbone"]["transformer"]
        _, sown = transformer.apply({"params": params}, images.pixels, mutable=["intermediates"])
        corners = np.asarray(sown["intermediates"]["outline"][0])
        x, y = (corners[:, 1] - corners[:, 0]).T  # the upper edge of what is read, whose length is 1 for all of it
        read = np.degrees(np.arctan2(-y, x))
        share, correlation = np.polyfit(angles, read, 1)[0], np.corrcoef(angles, read)[0, 1]
        print(
            f"{run.name}: reads at {share:.2f} times the digit's angle (correlation {correlation:.2f}), "
            f"{100 * np.hypot(x, y).mean():.0f} % of the side"
        )


if __name__ == "__main__":
    main()
