"""Audits a target: attack, controls, judges, verdict, report. Goes on where an earlier run of the same audit stopped.

python pipelines/audit.py configs/quickstart.yaml --search.steps 50 --out runs/mine
torchrun --nproc_per_node 2 pipelines/audit.py configs/quickstart.yaml
"""

from gmi import cli
from gmi.inversion.audit import INVERSION

if __name__ == "__main__":
    cli.run(lambda arguments: cli.main(INVERSION, __doc__ or "", arguments))
