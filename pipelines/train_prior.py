"""Trains a generative prior on a folder of public images. Goes on where it stopped; one process or many.

The same as `gmi train-prior`:
    accelerate launch pipelines/train_prior.py configs/priors/flow64.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["train-prior", *sys.argv[1:]])
