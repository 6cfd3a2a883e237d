"""Fetches gmi's assets into the local cache, as `gmi assets` does: all of them (360 MB to download), or those named.

python scripts/fetch_assets.py orl dcgan-digiface
"""

import sys

from gmi.cli import command

if __name__ == "__main__":
    command(["assets", *sys.argv[1:]])
