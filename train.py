"""Trains a config: `python train.py NAME [--field value ...]`; NAME is one of configs/, or a path to your own file."""

import sys

from vitjax.commands.main import train

if __name__ == "__main__":
    sys.exit(train())
