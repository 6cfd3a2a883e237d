"""Would query auditing notice? Every attack of a ladder, and people at a camera, ask a watched target.

The same as `gmi watch`:
    python pipelines/watch.py configs/ladder_orl.yaml --audit.data.attacked 2
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["watch", *sys.argv[1:]])
