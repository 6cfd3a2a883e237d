#!/usr/bin/env bash
# The environment, the assets, lint, types, layering and the whole test suite.
source "$(dirname "$0")/setup.sh" dev
.venv/bin/python scripts/fetch_assets.py
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright --pythonpath .venv/bin/python
.venv/bin/lint-imports
OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadfile "$@"
