#!/bin/bash
# A whole run on Cloud TPUs: asks for them in the queue, installs, runs, asks again if they are
# preempted until the run is finished, and deletes them.
#   experiments/launch/tpu_queued.sh NAME ZONE TYPE CONFIG gs://BUCKET/WORKDIR [FLAG ...]
# TYPE is an accelerator type such as v5litepod-16. Variables before the command:
#   RUNTIME=VERSION  of the hosts' system; default: the one of the TYPE
#   SLICES=N         several slices; default 1
#   SPOT=            reserved or on-demand in the place of spot TPUs: SPOT=--reserved, SPOT=""
#   DATA=gs://...    folder of prepared data sets, copied to /tmp/data of each host
#   REPOSITORY=URL   of this code; default: where this checkout came from
#   KEEP=1           leaves the TPUs running at the end
set -euo pipefail
name=$1 zone=$2 type=$3 config=$4 workdir=$5
spot=${SPOT---spot} slices=${SLICES:-1} poll=${POLL:-30} early=${EARLY:-600}
repository=${REPOSITORY:-$(git remote get-url origin)}
case $type in
    v5lite*) default=v2-alpha-tpuv5-lite ;;
    v5p*) default=v2-alpha-tpuv5 ;;
    v6e*) default=v2-alpha-tpuv6e ;;
    *) default=tpu-ubuntu2204-base ;;
esac
queued() { gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"; }
on_all_hosts() { queued ssh --node=all --worker=all --command="$1"; }
state() { queued describe --format='value(state.state)' 2>/dev/null || echo NONE; }
delete() { queued delete --force --quiet || true; }
trap 'echo "Interrupted. The TPUs stay: the same command goes on; to delete them:
gcloud compute tpus queued-resources delete $name --zone=$zone --force" >&2; exit 130' INT TERM

create() {
    local nodes=(--node-id="$name")
    ((slices == 1)) || nodes=(--node-count="$slices" --node-prefix="$name")
    # shellcheck disable=SC2086  # SPOT may be empty or several flags.
    queued create "${nodes[@]}" --accelerator-type="$type" \
        --runtime-version="${RUNTIME:-$default}" --scopes=cloud-platform $spot
}

wait_until_active() {
    local now failed=0
    while now=$(state); [[ $now != ACTIVE ]]; do
        case $now in
            NONE) create ;;
            FAILED)
                ((++failed < 3)) || { echo "error: the request for $type in $zone fails:" \
                    "see gcloud compute tpus queued-resources describe $name --zone=$zone" >&2
                    exit 1; }
                delete ;;
            SUSPENDED) delete ;;
        esac
        echo "$name: $now" >&2
        sleep "$poll"
    done
}

install="git clone $repository ganseg_jax || git -C ganseg_jax pull; cd ganseg_jax && make setup && \
.venv/bin/python -m pip install --quiet '.[tpu,gcs]'"
[[ -z ${DATA:-} ]] || install+=" && gcloud storage rsync --recursive $DATA /tmp/data"
# An earlier run may be left over if only the connection was cut: it saves and ends.
run="cd ganseg_jax; test -e run.pid && kill \$(cat run.pid) && tail --pid=\$(cat run.pid) -f /dev/null; \
.venv/bin/python -m experiments.pipeline --config=$config --workdir=$workdir \
--config.dataset.data_dir=/tmp/data --config.dtype=bfloat16 ${*:6} & \
echo \$! > run.pid; wait \$!; code=\$?; rm -f run.pid; test \$code != 2 || echo MISTAKE; exit \$code"

crashes=0 output=$(mktemp)
while true; do
    wait_until_active
    begun=$SECONDS
    if on_all_hosts "$install" && on_all_hosts "$run" 2>&1 | tee "$output"; then
        result=0
        break
    fi
    if grep -qx MISTAKE "$output"; then
        echo "error: the run cannot go on as it is; the line above that begins with error: says why" >&2
        result=2
        break
    fi
    # Crashing right after the start again and again, on TPUs that are there, is no preemption.
    if [[ $(state) == ACTIVE ]] && ((SECONDS - begun < early)); then
        if ((++crashes == 3)); then
            echo "error: the run ended early three times: see above" >&2
            result=1
            break
        fi
    else
        crashes=0
    fi
    echo "$name: cut off; the run resumes from its newest checkpoint" >&2
done
rm -f "$output"
[[ -n ${KEEP:-} ]] || delete
exit "$result"
