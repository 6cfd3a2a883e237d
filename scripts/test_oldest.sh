#!/usr/bin/env bash
# The suite on the oldest supported version of every dependency, in an environment of its own. Slow: it downloads an
# old torch, 3 GB with its CUDA libraries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv-oldest/bin/uv ] || { "${PYTHON:-python3}" -m venv .venv-oldest && .venv-oldest/bin/python -m pip install --quiet uv; }
.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct --editable ".[dev]"
.venv-oldest/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
