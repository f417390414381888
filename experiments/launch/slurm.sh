#!/bin/bash
# One task for each host, all of its GPUs: sbatch experiments/launch/slurm.sh CONFIG WORKDIR [FLAG ...]
# Goes back to the queue at the time limit and after a preemption or a crash, until it is finished.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=32
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
# The processes find each other through SLURM's variables. SIGTERM, sent to them before the time
# limit or a preemption, saves the state. If one dies the others end by themselves.
srun .venv/bin/python -m experiments.pipeline --config="$1" --workdir="$2" "${@:3}"
code=$?
# 0: finished. 2: a mistake, which its message names. 143: asked to end. A crash in the first ten
# minutes would come again; a later one may be the hardware's.
if ((code == 143 || (code != 0 && code != 2 && SECONDS >= ${EARLY:-600}))); then
    echo "Ended with code $code: back to the queue, to resume from the newest checkpoint" >&2
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
