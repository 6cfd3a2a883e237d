"""Audits a generative model: which of its training records its samples copy, compared with a model that never saw them.

The same as `gmi extract`:
    torchrun --nproc_per_node 2 pipelines/extract.py configs/extract_orl.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["extract", *sys.argv[1:]])
