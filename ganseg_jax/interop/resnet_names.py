"""Finds the ResNet in files of classifiers and of self-supervised training.

The network's own names are the same everywhere (`layer1.0.conv1.weight`); what stands before them,
and what lies beside it, differs from program to program: MoCo v1 to v3, DINO, SwAV, VICReg, BYOL,
Barlow Twins, timm, and those that number the layers of a sequence.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ganseg_jax.errors import UserError

# Of several networks in a file, the one that its authors evaluate.
_PREFERRED = ("teacher", "encoder_q", "base_encoder", "online", "state_dict_ema")
_OTHERS = ("student", "encoder_k", "momentum", "target")

# What may follow the network inside it: it is left out.
_HEADS = frozenset(
    """fc head heads classifier projector projection projetion projection_head prototypes predictor
    prediction_head neck mlp queue queue_ptr""".split()
)

# Layers of a sequence, as torch.nn.Sequential numbers the children of a ResNet.
_NUMBERED = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


class Found(NamedTuple):
    """Holds a ResNet's entries by their usual names, and what else a file has.

    Attributes:
      entries: names to arrays.
      prefix: what stood before the names.
      left_out: names of the other parts, with the number of their entries.
    """

    entries: dict[str, Any]
    prefix: str
    left_out: dict[str, int]


def find(content: Mapping[str, Any]) -> Found:
    """Returns the ResNet of a file's content, without heads.

    Args:
      content: names to arrays, nested as the file is.

    Raises:
      UserError: there is none, its stem is another one, or there are several and none is the one
        that is usually taken.
    """
    arrays = arrays_of(content)
    prefixes = _prefixes(arrays)
    if not prefixes:
        held = ", ".join(sorted({name.split(".")[0] for name in arrays})[:6]) or "no arrays"
        raise UserError(
            f"backbone: the file has no ResNet (no 'layer1.0.conv1.weight'); it holds {held}"
        )
    prefix = chosen(list(prefixes), "backbone", "ResNets")
    numbered = prefixes[prefix]
    parent = prefix.rpartition(".")[0].rpartition(".")[0]
    parent += "." if parent else ""
    entries: dict[str, Any] = {}
    left_out: Counter[str] = Counter()
    for name, array in arrays.items():
        inner = name.removeprefix(prefix)
        first, _, rest = inner.partition(".")
        if not name.startswith(prefix):
            left_out[name.removeprefix(parent).split(".")[0]] += 1
        elif first in _HEADS or (numbered and first not in _NUMBERED):
            left_out[first] += 1
        else:
            entries[f"{_NUMBERED[first]}.{rest}" if numbered else inner] = array
    if "conv1.weight" not in entries:
        raise UserError(
            "backbone: the first layer is no single convolution 'conv1.weight'; ResNets with a "
            "stem of several (such as resnet50d) are not supported"
        )
    return Found(entries, prefix, dict(left_out))


def arrays_of(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns all arrays at one level, without what compiled modules add to the names."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= arrays_of(value, f"{prefix}{name}.")
        elif hasattr(value, "shape"):
            found[f"{prefix}{name}".replace("_orig_mod.", "")] = value
    return found


def _prefixes(arrays: Mapping[str, Any]) -> dict[str, bool]:
    """Returns what stands before the names of each ResNet, and whether its layers are numbered."""
    found = {}
    for name in arrays:
        match = re.fullmatch(r"((?:.*\.)?)(layer1|4)\.0\.conv1\.weight", name)
        if match and (match[2] == "layer1" or f"{match[1]}7.0.conv1.weight" in arrays):
            found[match[1]] = match[2] == "4"
    return found


def chosen(prefixes: Sequence[str], what: str, several: str = "") -> str:
    """Returns what stands before the names of the network that is usually taken.

    Args:
      prefixes: those of all networks of the kind in a file, at least one.
      what: the network's name, for messages.
      several: its plural; `what` and an s by default.

    Raises:
      UserError: there are several, and none is the one that is usually taken.
    """
    for word in _PREFERRED:
        preferred = [prefix for prefix in prefixes if word in prefix]
        if len(preferred) == 1:
            return preferred[0]
    rest = [prefix for prefix in prefixes if not any(word in prefix for word in _OTHERS)]
    if len(rest or prefixes) > 1:
        raise UserError(
            f"{what}: the file has several {several or what + 's'}, under "
            + " and ".join(repr(prefix) for prefix in rest or prefixes)
            + ": save one of them alone"
        )
    return (rest or list(prefixes))[0]
