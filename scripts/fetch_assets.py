"""Fetches gmi's default assets into the local cache: all of them (320 MB to download), or those named.

Example: python scripts/fetch_assets.py orl dcgan-digiface
"""

import argparse
import sys
from collections.abc import Sequence

from gmi.assets.catalogue import ASSETS, cache_dir, fetch_asset, find
from gmi.errors import GmiError


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints each asset's folder. Returns 0, or 2 after one sentence on standard error."""
    parser = argparse.ArgumentParser(description="Fetch gmi's assets into $GMI_CACHE or ~/.cache/gmi.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which assets (default: all)")
    parser.add_argument("--list", action="store_true", help="only say what there is, and under which terms")
    chosen = parser.parse_args(arguments)
    try:
        assets = [find(name) for name in chosen.names] or ASSETS  # a misspelt name is told before anything is fetched
        if chosen.list:
            print(f"{'name':<15} {'licence':<36} {'download':>8}  terms")
        for asset in assets:
            if chosen.list:
                print(f"{asset.name:<15} {asset.licence:<36} {asset.size / 1e6:>5.0f} MB  {asset.terms}")
            else:
                print(f"{asset.name}: {fetch_asset(asset, cache_dir())}", flush=True)
    except GmiError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
