"""What each level of access to a target gives away: attacks with the whole model, scores and labels, at growing cost.

The same as `gmi ladder`:
    python pipelines/ladder.py configs/ladder_orl.yaml --dry-run
    torchrun --nproc_per_node 2 pipelines/ladder.py configs/ladder_orl.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["ladder", *sys.argv[1:]])
