"""Whole segmenters: photos of any size, or at the size that the network sees."""

from collections.abc import Mapping, Sequence

import onnx

from ganseg_jax.graph import networks, refining, resizing
from ganseg_jax.graph.kinds import Network, Variables
from ganseg_jax.graph.nodes import Nodes
from ganseg_jax.pixels import HALF_RANGE, membership


def for_photos(
    network: Network,
    variables: Variables,
    image_size: int | None,
    refine: bool,
    groups: Sequence[int] | None,
    facts: Mapping[str, str],
) -> onnx.ModelProto:
    """Returns the graph of `Segmenter.__call__` and `Segmenter.probabilities`.

    Its input is `images`, uint8 (N, H, W, 3) of any N, H and W; its outputs are `labels`, int32
    (N, H, W), and `probabilities`, float32 (N, H, W, C).

    Args:
      network: which one.
      variables: its weights.
      image_size: side of the square that the network sees; None for each photo's own size.
      refine: bring the probabilities to the edges of each photo's colours.
      groups: for each class of the network, the class that it counts as; None if each is its own.
      facts: kept in the file as metadata.
    """
    nodes = Nodes()
    photos = nodes.cast(nodes.apply("Transpose", "images", perm=[0, 3, 1, 2]), "float32")
    small = photos if image_size is None else resizing.shrink_bytes(nodes, photos, image_size)
    seen = _probabilities(nodes, small, network, variables, image_size, refine, groups)
    if image_size is not None:
        seen = resizing.resize(nodes, seen, nodes.side("images", 1), nodes.side("images", 2))
    best = nodes.apply("ArgMax", seen, axis=1, keepdims=0)
    nodes.apply("Cast", best, name="labels", to=onnx.TensorProto.INT32)
    nodes.apply("Transpose", seen, name="probabilities", perm=[0, 2, 3, 1])
    sides = ["N", "H", "W"]
    classes = max(groups) + 1 if groups else networks.num_classes(network, variables)
    return nodes.model(
        {"images": ("uint8", [*sides, 3])},
        {"labels": ("int32", sides), "probabilities": ("float32", [*sides, classes])},
        facts,
    )


def as_seen(
    network: Network,
    variables: Variables,
    image_size: int | None,
    refine: bool,
    groups: Sequence[int] | None,
) -> onnx.ModelProto:
    """Returns the graph of `Segmenter.probabilities_as_seen`.

    Its input is `images`, uint8 (N, S, S, 3), its output `probabilities`, float32 (N, S, S, C).
    """
    nodes = Nodes()
    small = nodes.cast(nodes.apply("Transpose", "images", perm=[0, 3, 1, 2]), "float32")
    seen = _probabilities(nodes, small, network, variables, image_size, refine, groups)
    nodes.apply("Transpose", seen, name="probabilities", perm=[0, 2, 3, 1])
    sides = ["N", image_size or "H", image_size or "W"]
    classes = max(groups) + 1 if groups else networks.num_classes(network, variables)
    return nodes.model(
        {"images": ("uint8", [*sides, 3])}, {"probabilities": ("float32", [*sides, classes])}, {}
    )


def _probabilities(
    nodes: Nodes,
    small: str,
    network: Network,
    variables: Variables,
    image_size: int | None,
    refine: bool,
    groups: Sequence[int] | None,
) -> str:
    """Returns probabilities (N, C, S, S) of bytes of type float32, (N, 3, S, S)."""
    scaled = nodes.apply("Mul", small, nodes.constant(1 / HALF_RANGE))
    x = nodes.apply("Sub", scaled, nodes.constant(1))
    logits = networks.logits(nodes, x, network, variables, image_size)
    probabilities = nodes.apply("Softmax", logits, axis=1)
    if refine:
        probabilities = refining.refine(nodes, x, probabilities)
    if groups is None:
        return probabilities
    member = membership(groups).T[:, :, None, None]  # A convolution of one pixel.
    return nodes.apply("Conv", probabilities, nodes.constant(member))
