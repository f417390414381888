"""Checks the types and shapes that the package declares while the tests run.

`install` comes before the first import of the package.
"""

import pathlib

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

_PACKAGE = pathlib.Path(__file__).parents[1] / "ganseg_jax"
# Settings are made unchecked on purpose: `config.check` answers their mistakes.
_LEFT_OUT = "config"
# JAX's functions take all three.
_ARRAYS = jax.Array | np.ndarray | jax.ShapeDtypeStruct

check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # A whole number may stand for a float.
        hint_overrides=BeartypeHintOverrides({jax.Array: _ARRAYS}),
    )
)
"""Wraps a function so that it checks its arguments and its result."""


def install() -> None:
    """Has every annotated function of the package checked if it is called."""
    jaxtyping.Array = _ARRAYS
    names = {path.stem for path in _PACKAGE.iterdir() if path.suffix in ("", ".py")}
    modules = [f"ganseg_jax.{name}" for name in names - {_LEFT_OUT} if name[0] != "_"]
    jaxtyping.install_import_hook(modules, f"{__name__}.check")
