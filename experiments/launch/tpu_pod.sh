#!/bin/bash
# Installs and starts on all workers of a TPU slice that is there:
#   experiments/launch/tpu_pod.sh NAME ZONE CONFIG gs://BUCKET/WORKDIR [FLAG ...]
set -euo pipefail
name=$1 zone=$2 config=$3 workdir=$4
repository=$(git remote get-url origin)
run() { gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"; }
run "git clone $repository ganseg_jax || git -C ganseg_jax pull; cd ganseg_jax && make setup && \
    .venv/bin/python -m pip install --quiet --upgrade 'jax[tpu]'"
run "cd ganseg_jax && .venv/bin/python -m experiments.pipeline --config=$config \
    --workdir=$workdir --config.dtype=bfloat16 ${*:5}"
