"""Audits a model of tables: what it gives away of one attribute of its people, compared with what anybody can guess.

The same as `gmi attributes`:
    python pipelines/attributes.py configs/attributes_fair.yaml
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["attributes", *sys.argv[1:]])
