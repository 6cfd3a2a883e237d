#!/usr/bin/env bash
# From a fresh clone to a report: environment, assets, target, audit. What is there already is not done again.
source "$(dirname "$0")/setup.sh" ""
.venv/bin/gmi assets orl facenet-casia lpips dlib mobilefacenet
.venv/bin/gmi train-target quickstart
.venv/bin/gmi audit quickstart "$@"
