"""Trains the target of an audit on the training images of its split.

The same as `gmi train-target`:
    python pipelines/train_target.py configs/quickstart.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["train-target", *sys.argv[1:]])
