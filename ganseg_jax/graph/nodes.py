"""A graph in the making: nodes, the names of their results, and constants."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""Version of ONNX's operators; read by onnxruntime from 1.12 on."""
_IR_VERSION = 8

TYPES: Mapping[str, int] = {
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float32": TensorProto.FLOAT,
}


class Nodes:
    """Collects the nodes of a graph; every method returns the name of a result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[tuple, str] = {}

    def apply(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node of an operator of one result.

        Args:
          kind: the operator's name in ONNX.
          inputs: names of results, constants or inputs.
          name: of the result; numbered if it is left out.
          attributes: the operator's own.
        """
        result = name or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [result], result, **attributes))
        return result

    def constant(self, values: Any, dtype: str = "float32") -> str:
        """Adds a constant, once if it is given again."""
        array: np.ndarray = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"constant_{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def integers(self, *values: int) -> str:
        """Adds a constant of int64, one axis."""
        return self.constant(values, "int64")

    def cast(self, x: str, dtype: str) -> str:
        """Converts to a type of `TYPES`."""
        return self.apply("Cast", x, to=TYPES[dtype])

    def turned_if(self, condition: str, x: str) -> str:
        """Swaps rows and columns of maps (N, C, H, W) if a condition, one bool, is true."""
        branches = {}
        for branch, order in (("then_branch", [0, 1, 3, 2]), ("else_branch", [0, 1, 2, 3])):
            name = f"{branch}_{len(self._nodes)}"
            value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            node = helper.make_node("Transpose", [x], [name], name, perm=order)
            branches[branch] = helper.make_graph([node], branch, [], [value])
        return self.apply("If", condition, **branches)

    def side(self, x: str, axis: int) -> str:
        """Returns the length of an axis as int64 (1,)."""
        return self.apply("Gather", self.apply("Shape", x), self.integers(axis), axis=0)

    def joined(self, *parts: str) -> str:
        """Joins int64 values to one shape."""
        return self.apply("Concat", *parts, axis=0)

    def model(
        self,
        inputs: Mapping[str, tuple[str, Sequence[Any]]],
        outputs: Mapping[str, tuple[str, Sequence[Any]]],
        facts: Mapping[str, str],
    ) -> onnx.ModelProto:
        """Returns the whole graph.

        Args:
          inputs: (type, shape) by name; a side that is not fixed has a name for its length.
          outputs: likewise.
          facts: kept in the file as metadata.
        """

        def values(described: Mapping[str, tuple[str, Sequence[Any]]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(name, TYPES[dtype], list(shape))
                for name, (dtype, shape) in described.items()
            ]

        graph = helper.make_graph(
            self._nodes, "segmenter", values(inputs), values(outputs), self._constants
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=_IR_VERSION,
            producer_name="ganseg_jax",
        )
        helper.set_model_props(model, dict(facts))
        return model
