"""Bilinear resizing, antialiased where it shrinks, as Pillow does it (`ganseg_jax.pixels`).

Along each axis it is a product with a matrix whose weights are, up to a factor,

    w(o, i) = max(0, 2 max(n, m) - |(2 i + 1) m - (2 o + 1) n|)

for output pixel o of m and input pixel i of n: whole numbers. ONNX has `Resize` for this, but
runtimes differ in what they make of its `antialias`; products are the same everywhere.
"""

from ganseg_jax.graph.nodes import Nodes
from ganseg_jax.pixels import ROWS_MAY_BE_FIRST, WEIGHT_BITS


def shrink_bytes(nodes: Nodes, photos: str, size: int) -> str:
    """Resizes photos to a square, rounding to bytes along each axis, in Pillow's order.

    Args:
      nodes: of the graph.
      photos: uint8 values of type float32, (N, 3, H, W).
      size: S.

    Returns:
      Likewise, (N, 3, S, S).
    """
    out = nodes.integers(size)
    rows_first = _rows_first(nodes, photos, size)
    photos = nodes.turned_if(rows_first, photos)
    for axis in (3, 2):
        pieces = _pieces(nodes, _weights(nodes, nodes.side(photos, axis), out))
        total = nodes.constant(2 ** (sum(WEIGHT_BITS) - 1), "int32")
        for piece, bits in zip(
            pieces, (WEIGHT_BITS[1] + WEIGHT_BITS[2], WEIGHT_BITS[2], 0), strict=True
        ):
            summed = nodes.cast(_along(nodes, photos, piece, axis), "int32")
            scaled = nodes.apply("Mul", summed, nodes.constant(2**bits, "int32"))
            total = nodes.apply("Add", total, scaled)
        rounded = nodes.apply("Div", total, nodes.constant(2 ** sum(WEIGHT_BITS), "int32"))
        photos = nodes.cast(rounded, "float32")
    return nodes.turned_if(rows_first, photos)


def _rows_first(nodes: Nodes, photos: str, size: int) -> str:
    """Returns `pixels.rows_first` of photos (N, 3, H, W), a bool of no axes."""
    if not ROWS_MAY_BE_FIRST:
        return nodes.constant(False, "bool")
    height, width = (
        nodes.apply("Squeeze", nodes.side(photos, axis), nodes.integers(0)) for axis in (2, 3)
    )
    side = nodes.constant(size, "int64")
    shrinks = nodes.apply("Greater", height, side)
    doubled = nodes.apply("Mul", width, nodes.constant(2, "int64"))
    tall = nodes.apply("Greater", nodes.apply("Add", height, side), doubled)
    return nodes.apply("And", shrinks, tall)


def resize(nodes: Nodes, x: str, height: str, width: str) -> str:
    """Resizes maps (N, C, h, w) to a size given as two results of type int64 (1,)."""
    for axis, side in ((3, width), (2, height)):
        weights = nodes.cast(_weights(nodes, nodes.side(x, axis), side), "float32")
        total = nodes.apply("ReduceSum", weights, nodes.integers(1), keepdims=1)
        x = _along(nodes, x, nodes.apply("Div", weights, total), axis)
    return x


def _weights(nodes: Nodes, before: str, after: str) -> str:
    """Returns w(o, i), int64 (after, before)."""
    one, two = nodes.constant(1, "int64"), nodes.integers(2)

    def odd(side: str) -> str:
        scalar = nodes.apply("Squeeze", side, nodes.integers(0))
        index = nodes.apply("Range", nodes.constant(0, "int64"), scalar, one)
        return nodes.apply("Add", nodes.apply("Mul", index, two), one)

    inputs = nodes.apply("Mul", odd(before), after)
    outputs = nodes.apply("Unsqueeze", nodes.apply("Mul", odd(after), before), nodes.integers(1))
    distance = nodes.apply("Abs", nodes.apply("Sub", inputs, outputs))
    reach = nodes.apply("Mul", nodes.apply("Max", before, after), two)
    return nodes.apply("Max", nodes.apply("Sub", reach, distance), nodes.constant(0, "int64"))


def _pieces(nodes: Nodes, weights: str) -> list[str]:
    """Returns round(2^22 w(o, i) / sum_i w(o, i)) in three pieces, the highest first, float32."""
    total = nodes.apply("ReduceSum", weights, nodes.integers(1), keepdims=1)
    pieces, left = [], weights
    for bits in WEIGHT_BITS[:-1]:
        scaled = nodes.apply("Mul", left, nodes.integers(2**bits))
        pieces.append(nodes.apply("Div", scaled, total))
        left = nodes.apply("Sub", scaled, nodes.apply("Mul", pieces[-1], total))
    doubled = nodes.apply("Mul", left, nodes.integers(2 ** (WEIGHT_BITS[-1] + 1)))
    halves = nodes.apply("Mul", total, nodes.integers(2))
    pieces.append(nodes.apply("Div", nodes.apply("Add", doubled, total), halves))
    return [nodes.cast(piece, "float32") for piece in pieces]


def _along(nodes: Nodes, x: str, matrix: str, axis: int) -> str:
    """Multiplies an axis, the third or fourth of (N, C, H, W), with a matrix (after, before)."""
    if axis == 2:
        return nodes.apply("MatMul", matrix, x)
    return nodes.apply("MatMul", x, nodes.apply("Transpose", matrix, perm=[1, 0]))
