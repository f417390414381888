"""Checks the shapes that the package declares while the tests run, and how types mix.

`install` comes before the first import of the package. Other types are checked by `make lint`, so
that tests may put simple objects in the place of networks.
"""

import functools
import pathlib
import types
from collections.abc import Callable
from typing import Any, get_args

import jax
import jaxtyping
import numpy as np
from beartype import BeartypeConf, beartype

_PACKAGE = pathlib.Path(__file__).parents[1] / "ganseg_jax"
# JAX's functions take all three.
_ARRAYS = jax.Array | np.ndarray | jax.ShapeDtypeStruct
# Mixed types are mistakes there: bfloat16 would silently become float32. Optax does mix types.
_STRICT = ("models", "losses", "geometry", "latents", "pixels", "refinement")


def install() -> None:
    """Has every function of the package check the shapes of its arguments and its result."""
    jaxtyping.Array = _ARRAYS
    jaxtyping.install_import_hook("ganseg_jax", f"{__name__}.check")


def check(function: Callable) -> Callable:
    """Wraps a function so that it checks the shapes of its arguments and its result."""
    kept = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    functools.update_wrapper(kept, function)
    del kept.__wrapped__
    kept.__kwdefaults__ = function.__kwdefaults__
    kept.__annotations__ = {
        name: hint if _has_shape(hint) else Any for name, hint in function.__annotations__.items()
    }
    # A whole number may stand for a float.
    checked = beartype(kept, conf=BeartypeConf(is_pep484_tower=True))
    if function.__module__.split(".")[1] in _STRICT:
        checked = _strictly(checked)
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(function)
    def check_arrays_only(self, *args, **kwargs):
        # JAX also fills its trees with shardings, axes and None.
        leaves = jax.tree.leaves((args, kwargs), is_leaf=lambda x: x is None)
        if hasattr(type(self), "_flax_dataclass") and not all(map(_is_array, leaves)):
            return None
        return checked(self, *args, **kwargs)

    return check_arrays_only


def _strictly(function: Callable) -> Callable:
    @functools.wraps(function)
    def with_strict_promotion(*args, **kwargs):
        with jax.numpy_dtype_promotion("strict"):
            return function(*args, **kwargs)

    return with_strict_promotion


def _has_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return any(map(_has_shape, get_args(hint)))


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, _ARRAYS) and leaf.ndim > 0
