#!/bin/bash
# Whether safetensors reads bfloat16 into NumPy depends on the function and on other imports.
#
# Expected: `safetensors.numpy.load` (bytes) and `load_file` (a path) read the same files, and what
# they read does not depend on which other packages the program has imported.
# Seen (safetensors 0.8.0, ml_dtypes 0.6.0, numpy 2.4.6): `load` raises KeyError: 'BF16' in any case.
# `load_file` reads the same tensor if ml_dtypes is imported, as it is after `import jax`, and raises
# TypeError if it is only installed. `safetensors.deserialize` gives the bytes in any case.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    safetensors==0.8.0 ml_dtypes==0.6.0 numpy==2.4.6
cd "$folder"
cat > check.py <<'PY'
import importlib
import json
import pathlib
import sys

from safetensors import numpy as formats

for name in sys.argv[1:]:
    importlib.import_module(name)
header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
data = len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0"
pathlib.Path("a.safetensors").write_bytes(data)
for read, given in ((formats.load, data), (formats.load_file, "a.safetensors")):
    try:
        outcome = read(given)["a"].astype("float32").tolist()
    except Exception as error:
        outcome = type(error).__name__
    print(read.__name__, *sys.argv[1:], outcome)
PY
seen=$(venv/bin/python check.py; venv/bin/python check.py ml_dtypes)
echo "$seen"
[ "$seen" = "load KeyError
load_file TypeError
load ml_dtypes KeyError
load_file ml_dtypes [1.0, -2.5]" ]
