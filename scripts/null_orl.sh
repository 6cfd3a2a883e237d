#!/usr/bin/env bash
# Ten audits of targets that know nobody (configs/null_orl.yaml), each with a training of its own; about half an hour.
source "$(dirname "$0")/setup.sh" ""
for seed in $(seq 0 9); do
    options=(--training.seed "$seed" --target.weights "runs/null_orl/$seed-target/model.safetensors")
    .venv/bin/gmi train-target null_orl "${options[@]}"
    .venv/bin/gmi audit null_orl "${options[@]}" --out "runs/null_orl/$seed" "$@"
done
.venv/bin/python -m scripts.findings runs/null_orl/[0-9]
