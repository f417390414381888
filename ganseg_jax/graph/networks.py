"""The networks of segmenters in ONNX, with batch normalisation folded into the convolutions.

Maps are NCHW here, as ONNX has them. What is built follows from the weights and from the few
settings that weights do not show.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ganseg_jax.graph.kinds import DeepLab, Network, Variables
from ganseg_jax.graph.nodes import Nodes

_EPSILON = 1e-5
"""Of batch normalisation, as in `models.blocks.BatchNorm`."""


def num_classes(network: Network, variables: Variables) -> int:
    """Returns the number of classes, background included."""
    layer = "classifier" if isinstance(network, DeepLab) else "classes"
    return len(variables["params"][layer]["bias"])


def logits(nodes: Nodes, x: str, network: Network, variables: Variables, size: int | None) -> str:
    """Adds a network.

    Args:
      nodes: of the graph.
      x: images in [-1, 1], (N, 3, H, W).
      network: which one.
      variables: its weights.
      size: side of the images; None if it is any.

    Returns:
      Logits, (N, C, H, W).
    """
    layers = _Layers(nodes, variables["params"], variables["batch_stats"])
    if isinstance(network, DeepLab):
        return _deeplab(nodes, layers, x, network)
    return _unet(nodes, layers, x, network.depth, size)


@dataclasses.dataclass(frozen=True)
class _Layers:
    """Adds layers with the weights of one module."""

    nodes: Nodes
    params: Mapping[str, Any]
    stats: Mapping[str, Any]

    def inside(self, name: str) -> "_Layers":
        return _Layers(self.nodes, self.params[name], self.stats.get(name, {}))

    def conv(
        self,
        x: str,
        name: str,
        norm: str = "",
        stride: int = 1,
        dilation: int = 1,
        relu: bool = True,
    ) -> str:
        """Adds a convolution, the normalisation behind it if it is named, and ReLU."""
        kernel = np.asarray(self.params[name]["kernel"], np.float64)
        bias = np.asarray(self.params[name].get("bias", np.zeros(kernel.shape[-1])), np.float64)
        if norm:
            affine, stats = self.params[norm], self.stats[norm]
            factor = np.asarray(affine["scale"], np.float64) / np.sqrt(
                np.asarray(stats["var"], np.float64) + _EPSILON
            )
            kernel = kernel * factor
            bias = (bias - np.asarray(stats["mean"])) * factor + np.asarray(affine["bias"])
        size, nodes = kernel.shape[0], self.nodes
        reach = dilation * (size // 2)
        y = nodes.apply(
            "Conv",
            x,
            nodes.constant(kernel.transpose(3, 2, 0, 1)),
            nodes.constant(bias),
            kernel_shape=[size, size],
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            pads=[reach] * 4,
        )
        return nodes.apply("Relu", y) if relu else y


def _deeplab(nodes: Nodes, layers: _Layers, x: str, network: DeepLab) -> str:
    features = _resnet(nodes, layers.inside("backbone"), x, network)
    y = _pyramid(nodes, layers.inside("aspp"), features, network.atrous_rates)
    y = layers.conv(layers.conv(y, "head_conv", "head_bn"), "classifier", relu=False)
    return _enlarge(nodes, y, nodes.joined(nodes.side(x, 2), nodes.side(x, 3)))


def _resnet(nodes: Nodes, layers: _Layers, x: str, network: DeepLab) -> str:
    x = layers.conv(x, "conv1", "bn1", stride=2)
    if network.stem_pool:
        x = nodes.apply("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    reached, dilation = 4 if network.stem_pool else 2, 1
    for stage in range(1, 5):
        stride, first_dilation = 1, dilation
        if stage > 1 and reached < network.output_stride:
            stride, reached = 2, reached * 2
        elif stage > 1:
            dilation *= 2
        count = sum(name.startswith(f"layer{stage}_") for name in layers.params)
        for i in range(count):
            block = layers.inside(f"layer{stage}_{i}")
            x = _block(nodes, block, x, (stride, 1)[i > 0], (first_dilation, dilation)[i > 0])
    return x


def _block(nodes: Nodes, layers: _Layers, x: str, stride: int, dilation: int) -> str:
    if "conv3" in layers.params:
        y = layers.conv(x, "conv1", "bn1")
        y = layers.conv(y, "conv2", "bn2", stride, dilation)
        y = layers.conv(y, "conv3", "bn3", relu=False)
    else:
        y = layers.conv(x, "conv1", "bn1", stride, dilation)
        y = layers.conv(y, "conv2", "bn2", dilation=dilation, relu=False)
    if "downsample_conv" in layers.params:
        x = layers.conv(x, "downsample_conv", "downsample_bn", stride, relu=False)
    return nodes.apply("Relu", nodes.apply("Add", x, y))


def _pyramid(nodes: Nodes, layers: _Layers, x: str, rates: tuple[int, ...]) -> str:
    branches = [layers.conv(x, "point_conv", "point_bn")]
    for i, rate in enumerate(rates):
        branches.append(layers.conv(x, f"atrous{i}_conv", f"atrous{i}_bn", dilation=rate))
    pooled = nodes.apply("ReduceMean", x, axes=[2, 3], keepdims=1)
    pooled = layers.conv(pooled, "pool_conv", "pool_bn")
    branches.append(nodes.apply("Expand", pooled, nodes.apply("Shape", branches[0])))
    return layers.conv(nodes.apply("Concat", *branches, axis=1), "project_conv", "project_bn")


def _unet(nodes: Nodes, layers: _Layers, x: str, depth: int, size: int | None) -> str:
    def double(x: str, name: str) -> str:
        inner = layers.inside(name)
        for i in range(2):
            x = inner.conv(x, f"conv_{i}", f"norm_{i}")
        return x

    skips = []
    for i in range(depth + 1):
        x = double(x, f"down_{i}")
        if i < depth:
            skips.append(x)
            x = nodes.apply("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for i, skip in reversed(list(enumerate(skips))):
        sides = nodes.joined(nodes.side(x, 2), nodes.side(x, 3))
        x = _enlarge(nodes, x, nodes.apply("Mul", sides, nodes.integers(2)))
        if size is None or (size >> i) % 2:
            x = _repeat_edge(nodes, x, skip)
        x = double(nodes.apply("Concat", skip, x, axis=1), f"up_{i}")
    return layers.conv(x, "classes", relu=False)


def _repeat_edge(nodes: Nodes, x: str, like: str) -> str:
    """Repeats the last row and column where x has fewer than `like`; both are (N, C, H, W)."""
    missing = [nodes.apply("Sub", nodes.side(like, axis), nodes.side(x, axis)) for axis in (2, 3)]
    pads = nodes.joined(nodes.integers(0, 0, 0, 0, 0, 0), *missing)
    return nodes.apply("Pad", x, pads, mode="edge")


def _enlarge(nodes: Nodes, x: str, sides: str) -> str:
    """Resizes bilinearly with half-pixel centres to a size that is at least x's own."""
    sizes = nodes.joined(nodes.side(x, 0), nodes.side(x, 1), sides)
    return nodes.apply(
        "Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )
