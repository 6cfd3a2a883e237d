#!/usr/bin/env bash
# The environment, the assets, lint, types, layering, documentation and the whole test suite.
source "$(dirname "$0")/setup.sh" dev
.venv/bin/python scripts/fetch_assets.py
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/pyright --pythonpath .venv/bin/python
.venv/bin/lint-imports
.venv/bin/python scripts/tables.py --check
.venv/bin/python scripts/sentences.py --check
NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
.venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
