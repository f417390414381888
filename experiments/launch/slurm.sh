#!/bin/bash
# One task for each host, all of its GPUs: sbatch experiments/launch/slurm.sh CONFIG WORKDIR [FLAG ...]
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=32
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
# The processes find each other through SLURM's variables. SIGTERM, sent before the time limit or a
# preemption, saves the state; the requeued job goes on from there.
srun --kill-on-bad-exit=1 .venv/bin/python -m experiments.pipeline \
    --config="$1" --workdir="$2" "${@:3}"
