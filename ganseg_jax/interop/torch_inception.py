"""Weights of the FID Inception-v3 in the PyTorch conversion that everyone uses."""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ganseg_jax.interop import conversion
from ganseg_jax.interop.conversion import CONV, LINEAR, Entry, Variables, batch_norm, layer
from ganseg_jax.models.inception import INPUT_SIZE, FIDInception


def load_fid_inception(state_dict: Mapping[str, Any]) -> tuple[FIDInception, Variables]:
    """Loads the FID Inception-v3, whose features Fréchet and kernel distances are measured on.

    Args:
      state_dict: names to arrays; an auxiliary classifier ("AuxLogits") is passed over.

    Raises:
      UserError: an entry is missing, unknown, or of another shape (the usual classifier with 1000
        classes is another network, and does not fit).
    """
    module = FIDInception()
    images = jnp.zeros((1, INPUT_SIZE, INPUT_SIZE, 3))
    shapes = conversion.variable_shapes(module, images)
    variables = conversion.to_variables(
        conversion.unwrapped(state_dict),
        _entries(shapes),
        shapes,
        "FID Inception",
        ignored=lambda key: key.startswith("AuxLogits."),
    )
    return module, variables


def _entries(shapes: Variables) -> list[Entry]:
    """Lists the module's entries: names differ from the file's in separators alone."""
    entries = []
    for path in conversion.flatten(shapes["params"]):
        name = re.sub(r"/(kernel|scale|bias)$", "", path)
        if path.endswith("/conv/kernel"):
            entries += layer(name.replace("/", "."), name, CONV, bias=False)
        elif path.endswith("/bn/scale"):
            entries += batch_norm(name.replace("/", "."), name)
    return entries + layer("fc", "fc", LINEAR)
