"""DeepLabV3 segmenters and ResNet backbones in the names of the usual PyTorch vision library."""

import logging
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ganseg_jax.errors import UserError
from ganseg_jax.interop import conversion, resnet_names
from ganseg_jax.interop.conversion import CONV, Entry, StateDict, Variables, batch_norm, layer
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.resnet import (
    STAGE_BLOCKS,
    STAGE_CHANNELS,
    ResNet,
    scale_channels,
    stage_names,
)

LOG = logging.getLogger(__name__)

# Blocks in each stage, and whether they are bottlenecks, of networks that are refused by name.
_OTHER_DEPTHS: dict[tuple[tuple[int, ...], bool], str] = {
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}


def load_segmenter(
    state_dict: Mapping[str, Any], module: DeepLabV3 | None = None
) -> tuple[DeepLabV3, Variables]:
    """Loads the segmenter of a published checkpoint (its entry "detector").

    Args:
      state_dict: names to arrays, with or without the prefix "model.".  An auxiliary classifier
        is passed over.
      module: the segmenter to fill.  By default the published one, with classes, backbone and
        width read off the shapes.

    Raises:
      UserError: an entry is missing, unknown, or of another shape.
    """
    state_dict = conversion.strip_prefix(conversion.unwrapped(state_dict), "model.")
    if module is None:
        kind, width = backbone_settings(state_dict, "backbone.", "segmenter")
        classes = conversion.required_shape(state_dict, "classifier.4.bias", "segmenter")[0]
        module = DeepLabV3(classes, backbone=kind, width=width)
    variables = conversion.to_variables(
        state_dict,
        _segmenter_entries(module),
        conversion.variable_shapes(module, jnp.zeros((1, 32, 32, 3)), train=False),
        "segmenter",
        ignored=lambda key: key.startswith("aux_classifier."),
    )
    return module, variables


def export_segmenter(module: DeepLabV3, variables: Mapping[str, Any]) -> StateDict:
    """Returns the state_dict that the published code loads; `load_segmenter`'s exact inverse.

    Only the defaults of output stride, rates and max pool make the same network there.
    """
    state_dict = conversion.to_state_dict(variables, _segmenter_entries(module))
    return {f"model.{key}": value for key, value in state_dict.items()}


def load_backbone(content: Mapping[str, Any]) -> tuple[ResNet, Variables]:
    """Loads the ResNet of a classifier's or a self-supervised model's checkpoint.

    The variables go into a segmenter with `with_backbone`. What is left out (heads, other networks,
    optimisers) is logged.

    Args:
      content: names to arrays, with whatever prefix, or a whole training file; see `resnet_names`.

    Raises:
      UserError: there is no ResNet, or one of another depth; an entry is missing, unknown, or of
        another shape.
    """
    found = resnet_names.find(content)
    kind, width = backbone_settings(found.entries, "", "backbone")
    module = ResNet(kind=kind, width=width)
    variables = conversion.to_variables(
        found.entries,
        _backbone_entries(kind),
        conversion.variable_shapes(module, jnp.zeros((1, 32, 32, 3)), train=False),
        "backbone",
    )
    where = f" under {found.prefix!r}" if found.prefix else ""
    rest = ", ".join(f"{name} ({count})" for name, count in sorted(found.left_out.items()))
    LOG.info(
        "Backbone: %s with %d entries%s; left out: %s.",
        kind, len(found.entries), where, rest or "nothing",
    )  # fmt: skip
    return module, variables


def with_backbone(segmenter: Mapping[str, Any], backbone: Mapping[str, Any]) -> Variables:
    """Returns variables of a `DeepLabV3`, its backbone's replaced by those of `load_backbone`.

    Raises:
      UserError: the two backbones differ in depth or width.
    """
    merged = {name: dict(tree) for name, tree in segmenter.items()}
    for collection, tree in backbone.items():
        here = conversion.flatten(merged[collection]["backbone"])
        given = conversion.flatten(tree)
        for name in sorted(set(here) | set(given)):
            shapes = [tuple(flat[name].shape) if name in flat else None for flat in (here, given)]
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"the given backbone does not fit the segmenter's: {name} has shape "
                    f"{shapes[1]} in the checkpoint, {shapes[0]} in the segmenter"
                )
        merged[collection]["backbone"] = tree
    return merged


def backbone_settings(state_dict: Mapping[str, Any], prefix: str, what: str) -> tuple[str, float]:
    """Returns kind and width of a ResNet, read off its blocks and its first convolution.

    Args:
      state_dict: names to arrays.
      prefix: of the backbone's names.
      what: the network's name, for messages.

    Raises:
      UserError: the first convolution is missing, or has an odd number of channels; the network
        is of another depth.
    """
    channels = conversion.required_shape(state_dict, f"{prefix}conv1.weight", what)[0]
    bottlenecks = f"{prefix}layer1.0.conv3.weight" in state_dict
    kind = "resnet50" if bottlenecks else "resnet18"
    blocks = tuple(_blocks(state_dict, f"{prefix}layer{stage}") for stage in (1, 2, 3, 4))
    if (blocks, bottlenecks) in _OTHER_DEPTHS:
        raise UserError(
            f"{what}: this is a {_OTHER_DEPTHS[blocks, bottlenecks]}; "
            f"{' and '.join(STAGE_BLOCKS)} are supported"
        )
    width = channels / STAGE_CHANNELS[0]
    if channels != scale_channels(STAGE_CHANNELS[0], width):
        raise UserError(
            f"{what}: {prefix}conv1.weight has {channels} channels; a multiple of 8 is needed"
        )
    return kind, width


def _blocks(state_dict: Mapping[str, Any], stage: str) -> int:
    count = 0
    while f"{stage}.{count}.conv1.weight" in state_dict:
        count += 1
    return count


def _backbone_entries(kind: str, key: str = "", path: str = "") -> list[Entry]:
    entries = [
        *layer(f"{key}conv1", f"{path}conv1", CONV, bias=False),
        *batch_norm(f"{key}bn1", f"{path}bn1"),
    ]
    convs = 3 if kind == "resnet50" else 2
    for name in stage_names(kind):
        stage, index = name.removeprefix("layer").split("_")
        block = f"{key}layer{stage}.{index}"
        for i in range(1, convs + 1):
            entries += layer(f"{block}.conv{i}", f"{path}{name}/conv{i}", CONV, bias=False)
            entries += batch_norm(f"{block}.bn{i}", f"{path}{name}/bn{i}")
        # Basic blocks of the first stage keep size and channels, so they need no projection.
        if index == "0" and (kind == "resnet50" or stage != "1"):
            entries += layer(
                f"{block}.downsample.0", f"{path}{name}/downsample_conv", CONV, bias=False
            )
            entries += batch_norm(f"{block}.downsample.1", f"{path}{name}/downsample_bn")
    return entries


def _segmenter_entries(module: DeepLabV3) -> list[Entry]:
    entries = _backbone_entries(module.backbone, "backbone.", "backbone/")
    rates = len(module.atrous_rates)
    branches = ["point", *(f"atrous{i}" for i in range(rates))]
    convs = {f"convs.{i}": (0, name) for i, name in enumerate(branches)}
    # The pooling branch has the pooling itself at index 0.
    convs[f"convs.{rates + 1}"] = (1, "pool")
    convs["project"] = (0, "project")
    for key, (index, name) in convs.items():
        branch = f"classifier.0.{key}"
        entries += layer(f"{branch}.{index}", f"aspp/{name}_conv", CONV, bias=False)
        entries += batch_norm(f"{branch}.{index + 1}", f"aspp/{name}_bn")
    entries += layer("classifier.1", "head_conv", CONV, bias=False)
    entries += batch_norm("classifier.2", "head_bn")
    return entries + layer("classifier.4", "classifier", CONV)
