#!/bin/bash
# A described v4 slice has twice the devices of a real one.
#
# Expected: a topology description stands for the slice of that name, so that v4:2x2x1, which is what
# a Cloud TPU v4-8 has, gives the four devices that jax.devices() gives there (one a chip, its two
# cores together), as v5p:2x2x1 does. A program compiled for it then splits its batch as on the slice.
# Seen (jax 0.10.2, libtpu 0.0.42.1): v4:2x2x1 gives eight devices, two cores a chip, and so does
# tpu7x:2x2x1; v5p:2x2x1 and v5e:2x2 give four. No argument joins the cores: `megacore` is refused as
# unexpected. jax.make_mesh then refuses the eight devices of v4 ("requires one device per chip"), and
# takes those of tpu7x. A mesh made by hand compiles, but each device has half the images and half the
# memory, so estimates for v4 are for cores, not for the chips that training will see.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 libtpu==0.0.42.1
cd "$folder"
cat > check.py <<'PY'
import os

os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost")
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")

import jax
from jax.experimental import topologies

EXPECTED = {"v4:2x2x1": (8, 2), "tpu7x:2x2x1": (8, 2), "v5p:2x2x1": (4, 1), "v5e:2x2": (4, 1)}

seen = {}
for name in EXPECTED:
    devices = topologies.get_topology_desc(name, "tpu").devices
    seen[name] = (len(devices), len({device.core_on_chip for device in devices}))
    print(f"{name}: {seen[name][0]} devices, {seen[name][1]} a chip")
try:
    topologies.get_topology_desc("v4:2x2x1", "tpu", megacore=True)
    refused = False
except jax.errors.JaxRuntimeError as error:
    print(f"megacore=True: {error}")
    refused = "Unexpected arguments: megacore" in str(error)


def outcome(name):
    devices = topologies.get_topology_desc(name, "tpu").devices
    try:
        jax.make_mesh((len(devices),), ("data",), devices=list(devices))
    except AssertionError as error:
        return "refused" if "requires one device per chip" in str(error) else str(error)
    return "made"


meshes = {name: outcome(name) for name in EXPECTED}
print(meshes)
as_described = [value == "made" for value in meshes.values()] == [False, True, True, True]
raise SystemExit(0 if seen == EXPECTED and refused and as_described else 1)
PY
venv/bin/python check.py
