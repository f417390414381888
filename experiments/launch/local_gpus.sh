#!/bin/bash
# All GPUs of this host, in one process: experiments/launch/local_gpus.sh CONFIG WORKDIR [FLAG ...]
# CUDA_VISIBLE_DEVICES=0,1 before the command chooses some of them.
set -euo pipefail
exec .venv/bin/python -m experiments.pipeline --config="$1" --workdir="$2" "${@:3}"
