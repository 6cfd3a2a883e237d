"""Audits a target: attack, controls, judges, verdict, report. Goes on where an earlier run of the same audit stopped.

The same as `gmi audit`:
    torchrun --nproc_per_node 2 pipelines/audit.py configs/quickstart.yaml
    accelerate launch pipelines/audit.py configs/quickstart.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["audit", *sys.argv[1:]])
