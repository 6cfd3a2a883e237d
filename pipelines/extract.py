"""Audits a generative model: which of its training records its samples copy, compared with a model that never saw them.

python pipelines/extract.py configs/extract_orl.yaml
torchrun --nproc_per_node 2 pipelines/extract.py configs/extract_orl.yaml
"""

from gmi import cli
from gmi.extraction.audit import EXTRACTION

if __name__ == "__main__":
    cli.run(lambda arguments: cli.main(EXTRACTION, __doc__ or "", arguments))
