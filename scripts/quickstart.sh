#!/usr/bin/env bash
# From a fresh clone to a report: environment, assets, target, audit. What is there already is not done again.
source "$(dirname "$0")/setup.sh" ""
.venv/bin/python scripts/fetch_assets.py orl facenet-casia dcgan-digiface lpips dlib
.venv/bin/python pipelines/train_target.py configs/quickstart.yaml
.venv/bin/python pipelines/audit.py configs/quickstart.yaml "$@"
