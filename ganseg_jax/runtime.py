"""Networks on a CPU through onnxruntime: nothing is compiled, and JAX is not needed."""

import importlib.util
import os
import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from ganseg_jax.graph.kinds import Network, Variables

_AT_ONCE = 8
_REFINED_AT_ONCE = 2
"""Photos. More of them are hardly faster; refinement takes 40 MB for each at 64 px."""


def is_installed() -> bool:
    """Says whether networks can be run here without JAX."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def is_for_cpus() -> bool:
    """Says whether JAX would compute on a CPU; starts it only where that is not plain."""
    if "jax" not in sys.modules:
        if chosen := os.environ.get("JAX_PLATFORMS"):
            return chosen == "cpu"
        # Packages of accelerators put themselves there.
        if not any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")):
            return True
    import jax

    return jax.default_backend() == "cpu"


class Session:
    """Computes the probabilities of photos at the size that the network sees.

    Args:
      network: which one.
      variables: its weights.
      image_size: side of the photos; None if it is any.
      refine: bring the probabilities to the edges of each photo's colours.
      groups: for each class of the network, the class that it counts as; None if each is its own.
    """

    def __init__(
        self,
        network: Network,
        variables: Variables,
        image_size: int | None,
        refine: bool,
        groups: Sequence[int] | None = None,
    ):
        import onnxruntime

        from ganseg_jax.graph import segmenter

        self._at_once = _REFINED_AT_ONCE if refine else _AT_ONCE
        model = segmenter.as_seen(network, variables, image_size, refine, groups)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # It warns of cores that it may not choose in containers.
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, small: UInt8[np.ndarray, "n s t 3"]) -> Float[np.ndarray, "n s t c"]:
        """Returns the probabilities of one photo or more."""
        count = self._at_once
        parts = [small[first : first + count] for first in range(0, len(small), count)]
        return np.concatenate([self._session.run(None, {"images": part})[0] for part in parts])
