#!/usr/bin/env bash
# Audits on a Slurm cluster: one over several machines, or many, each as a task of an array. With gmi's environment active:
#
#   sbatch --nodes 2 --gpus-per-node 4 --cpus-per-task 16 scripts/slurm.sh audit configs/lfw_flow.yaml --out SHARED/lfw_flow
#   sbatch --array 0-2 scripts/slurm.sh audit configs/lfw_flow.yaml configs/lfw_gan.yaml configs/lfw_noise.yaml
#
# The first splits the people over all GPUs; all machines must see the run folder. The second gives each task one of the
# configurations, with a run folder of its own and all options that follow. What a machine did not finish, the same command does, on any number of them.
#SBATCH --job-name gmi
#SBATCH --ntasks-per-node 1
#SBATCH --output gmi-%j.log
set -euo pipefail
refuse() { echo "error: $1" >&2; exit 2; }
[ $# -ge 2 ] || refuse "name a command and a configuration, as in: sbatch scripts/slurm.sh audit configs/lfw_flow.yaml"
[ -n "${SLURM_JOB_ID:-}" ] || refuse "start this with sbatch"

if [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    command=$1 configs=()
    shift
    while [ $# -gt 0 ] && [[ $1 != -* ]]; do configs+=("$1"); shift; done
    [ "$SLURM_ARRAY_TASK_ID" -lt ${#configs[@]} ] || refuse "no configuration has number $SLURM_ARRAY_TASK_ID: the first is 0"
    exec python -m gmi "$command" "${configs[$SLURM_ARRAY_TASK_ID]}" "$@"
fi
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")  # the first machine, where the others meet
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # which srun does not take over by itself
exec srun --kill-on-bad-exit=1 torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$head:${PORT:-$((20000 + SLURM_JOB_ID % 20000))}" -m gmi "$@"
