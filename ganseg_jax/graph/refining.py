"""`ganseg_jax.refinement` in ONNX; the equations and constants stand there."""

import math

from ganseg_jax import refinement_constants as refinement
from ganseg_jax.graph.nodes import Nodes


def refine(nodes: Nodes, images: str, probabilities: str) -> str:
    """Moves the edges of segmentations to those of the images.

    Args:
      nodes: of the graph.
      images: in [-1, 1], (N, 3, H, W).
      probabilities: (N, C, H, W).

    Returns:
      Probabilities, (N, C, H, W).
    """

    def number(value: float) -> str:
        return nodes.constant(value)

    rows, cols = _strides(nodes, images, 2), _strides(nodes, images, 3)

    def flat(x: str) -> str:
        # No -1, which says nothing where there are no photos. And no Concat: onnxruntime puts a -1
        # in the place of a length that it finds in one (findings/onnxruntime_reshape_empty.sh).
        sides = nodes.apply("Slice", nodes.apply("Shape", x), nodes.integers(0), nodes.integers(3))
        width = nodes.apply("Mul", nodes.side(x, 3), nodes.integers(0, 0, 1))
        factors = nodes.apply("Max", width, nodes.integers(1))
        return nodes.apply("Reshape", x, nodes.apply("Mul", sides, factors))

    def of_references(x: str) -> str:
        return flat(_every(nodes, _every(nodes, x, 2, rows), 3, cols))

    colors = nodes.apply("Mul", nodes.apply("Add", images, number(1)), number(0.5))
    similarity = _similarity(nodes, flat(colors), of_references(colors))
    offsets = refinement.neighbors()
    affinity = []
    for offset, near in zip(offsets, _shifted(nodes, colors, offsets), strict=True):
        away = nodes.apply("Sub", near, colors)
        squared = nodes.apply("Mul", away, away)
        distance = nodes.apply("ReduceSum", squared, nodes.integers(1), keepdims=1)
        scaled = nodes.apply("Mul", distance, number(-refinement.EDGE))
        # SMOOTHNESS stands here, once, instead of behind each sum.
        weight = number(refinement.SMOOTHNESS / math.hypot(*offset))
        affinity.append(nodes.apply("Mul", nodes.apply("Exp", scaled), weight))
    least = number(refinement.LEAST)
    prior = nodes.apply("Log", nodes.apply("Max", probabilities, least))
    prior = nodes.apply("Mul", prior, number(refinement.PRIOR))
    shape, q = nodes.apply("Shape", probabilities), probabilities
    for _ in range(refinement.ITERATIONS):
        given = of_references(q)
        mass = nodes.apply("ReduceSum", given, nodes.integers(2), keepdims=1)
        given = nodes.apply("Div", given, nodes.apply("Add", mass, number(1e-3)))
        density = nodes.apply("MatMul", similarity, nodes.apply("Transpose", given, perm=[0, 2, 1]))
        density = nodes.apply("Transpose", density, perm=[0, 2, 1])
        color = nodes.apply("Log", nodes.apply("Add", density, least))
        total = nodes.apply("Add", prior, nodes.apply("Reshape", color, shape))
        for weight, near in zip(affinity, _shifted(nodes, q, offsets), strict=True):
            total = nodes.apply("Add", total, nodes.apply("Mul", weight, near))
        q = nodes.apply("Softmax", total, axis=1)
    return q


def _similarity(nodes: Nodes, pixels: str, references: str) -> str:
    """Returns the kernels' values, (N, P, R), of colours (N, 3, P) and (N, 3, R).

    As one product, -|a - b|^2 = (a, |a|^2, 1) (2 b, -1, -|b|^2), because each operator on all pairs
    of colours takes as long as many layers of the network.
    """

    def squares(x: str) -> str:
        return nodes.apply("ReduceSum", nodes.apply("Mul", x, x), nodes.integers(1), keepdims=1)

    def ones(x: str) -> str:
        return nodes.apply("Expand", nodes.constant(1), nodes.apply("Shape", x))

    scale = nodes.constant(1 / (2 * refinement.COLOR_WIDTH**2))
    of_pixels, of_references = squares(pixels), squares(references)
    left = nodes.apply("Concat", pixels, of_pixels, ones(of_pixels), axis=1)
    right = [
        nodes.apply("Mul", references, nodes.constant(2)),
        nodes.apply("Neg", ones(of_references)),
        nodes.apply("Neg", of_references),
    ]
    scaled = nodes.apply("Mul", nodes.apply("Concat", *right, axis=1), scale)
    product = nodes.apply("MatMul", nodes.apply("Transpose", left, perm=[0, 2, 1]), scaled)
    return nodes.apply("Exp", product)


def _strides(nodes: Nodes, x: str, axis: int) -> tuple[str, str]:
    """Returns where the references along an axis begin, and the step to the next, int64 (1,)."""
    most = refinement.MOST_REFERENCES
    raised = nodes.apply("Add", nodes.side(x, axis), nodes.integers(most - 1))
    step = nodes.apply("Div", raised, nodes.integers(most))
    return nodes.apply("Div", step, nodes.integers(2)), step


def _every(nodes: Nodes, x: str, axis: int, strides: tuple[str, str]) -> str:
    start, step = strides
    end = nodes.integers(2**31 - 1)
    return nodes.apply("Slice", x, start, end, nodes.integers(axis), step)


def _shifted(nodes: Nodes, x: str, offsets: list[tuple[int, int]]) -> list[str]:
    """Returns for each offset what every pixel finds there; beyond the image what its edge has."""
    reach, axes = refinement.RADIUS, nodes.integers(2, 3)
    pads = nodes.integers(0, 0, reach, reach, 0, 0, reach, reach)
    wide = nodes.apply("Pad", x, pads, mode="edge")
    sides = nodes.joined(nodes.side(x, 2), nodes.side(x, 3))
    shifted = []
    for row, col in offsets:
        start = nodes.integers(reach + row, reach + col)
        shifted.append(nodes.apply("Slice", wide, start, nodes.apply("Add", start, sides), axes))
    return shifted
