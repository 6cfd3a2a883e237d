#!/usr/bin/env bash
# Our client against MLServer, and tritonclient against our server, both installed beside gmi in an environment of their own.
source "$(dirname "$0")/setup.sh" dev
other=.venv-interoperability
[ -x $other/bin/mlserver ] || { "${PYTHON:-python3}" -m venv $other && $other/bin/python -m pip install --quiet mlserver==1.7.1 "tritonclient[http]==2.73.0"; }
GMI_INTEROPERABILITY="$PWD/$other/bin/python" .venv/bin/python -m pytest -q -m slow tests/targets/test_interoperability.py "$@"
