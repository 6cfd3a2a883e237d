"""Serves a target over the Open Inference Protocol, version 2, as an API would show it. Stop it with Ctrl+C.

The same as `gmi serve`:
    python pipelines/serve.py configs/serve_orl.yaml --port 8080
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["serve", *sys.argv[1:]])
