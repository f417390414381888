#!/bin/bash
# onnxruntime's optimiser makes a valid graph fail for an empty batch.
#
# Expected: a Reshape to Concat([0, 0], H * W), each of them known when the graph runs, flattens maps
# (N, C, H, W) to (N, C, H * W) for any N, none among them: nothing in it has to be guessed.
# Seen (onnxruntime 1.32.0): right for N = 2. For N = 0 it raises "The input tensor cannot be reshaped
# to the requested shape ... {0,3,-1}": the fusion of Reshape has put -1 in the place of H * W, and of
# an empty tensor -1 can be anything. With the optimisations turned off N = 0 passes, and so it does
# if the shape is not made by Concat (here a product of whole shapes).
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy
cd "$folder"
cat > check.py <<'PY'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper


def model(with_concat):
    numbers = {"zeros": [0, 0], "two": [2], "three": [3], "zero": [0], "last": [0, 0, 1]}
    constants = [
        numpy_helper.from_array(np.array(v, np.int64), n)
        for n, v in (numbers | {"one": [1]}).items()
    ]
    node = helper.make_node
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "two"], ["height"], axis=0),
        node("Gather", ["shape", "three"], ["width"], axis=0),
    ]
    if with_concat:
        nodes.append(node("Mul", ["height", "width"], ["area"]))
        nodes.append(node("Concat", ["zeros", "area"], ["flat"], axis=0))
    else:
        nodes.append(node("Slice", ["shape", "zero", "three"], ["sides"]))
        nodes.append(node("Mul", ["width", "last"], ["only"]))
        nodes.append(node("Max", ["only", "one"], ["factors"]))
        nodes.append(node("Mul", ["sides", "factors"], ["flat"]))
    nodes.append(node("Reshape", ["x", "flat"], ["y"]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, "P"])
    graph = helper.make_graph(nodes, "flatten", [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made, full_check=True)
    return made.SerializeToString()


def outcome(with_concat, count, optimised=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model(with_concat), options, providers=providers)
    try:
        return session.run(None, {"x": np.zeros((count, 3, 4, 5), np.float32)})[0].shape
    except Exception as error:
        return "{0,3,-1}" if "{0,3,-1}" in str(error) else type(error).__name__


seen = {
    "two, Concat": outcome(True, 2),
    "none, Concat": outcome(True, 0),
    "none, Concat, not optimised": outcome(True, 0, optimised=False),
    "none, product": outcome(False, 0),
}
print("onnxruntime", onnxruntime.__version__, seen)
expected = {
    "two, Concat": (2, 3, 20),
    "none, Concat": "{0,3,-1}",
    "none, Concat, not optimised": (0, 3, 20),
    "none, product": (0, 3, 20),
}
raise SystemExit(seen != expected)
PY
"$folder/venv/bin/python" check.py
