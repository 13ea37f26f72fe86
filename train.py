"""Trains a config: `python train.py NAME [--field value ...]`, NAME being one of configs/ or a path to a file of yours."""

import sys

from vitjax.cli import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
