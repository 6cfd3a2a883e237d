"""Compares what each defence of a target buys and what it costs: targets by defences by attacks by seeds.

The same as `gmi compare`; goes on where it stopped, cell by cell:
    python pipelines/compare.py configs/defences_orl.yaml --dry-run
    torchrun --nproc_per_node 2 pipelines/compare.py configs/defences_orl.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["compare", *sys.argv[1:]])
