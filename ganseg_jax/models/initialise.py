"""The weights that training begins with: declared by each module, drawn on the host.

Compiling a hundred random draws takes a minute; drawing them with numpy takes a second, and the
numbers are the same on every accelerator and number of devices. A module declares each parameter
with an `Initialiser`. `module.init` calls it like any initialiser of JAX; `init_variables` has it
draw on the host.
"""

import contextlib
import contextvars
import dataclasses
import math
import zlib
from collections.abc import Iterator
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from flax.core.meta import AxisMetadata
from jaxtyping import Array

_RECORDING = contextvars.ContextVar("recording", default=False)


@dataclasses.dataclass(frozen=True)
class Initialiser:
    """Draws a parameter, in JAX (`module.init`) or on the host (`init_variables`).

    Attributes:
      kind: "normal" or "uniform" around 0, or "constant".
      scale: variance times `fan`; without `fan` the standard deviation; of "constant" the value, or
        all values in order.
      fan: "in", what each output adds up, or "out", what each input is added to.
    """

    kind: Literal["normal", "uniform", "constant"]
    scale: float | tuple[float, ...]
    fan: Literal["in", "out"] | None = None

    def deviation(self, shape: tuple[int, ...]) -> float:
        """Returns the standard deviation for kernels [..., inputs, outputs] of this shape."""
        assert not isinstance(self.scale, tuple)
        if self.fan is None:
            return self.scale
        ends = shape[:-1] if self.fan == "in" else (*shape[:-2], shape[-1])
        return math.sqrt(self.scale / max(math.prod(ends), 1))

    def __call__(
        self, key: jax.Array | None, shape: tuple[int, ...], dtype: Any = jnp.float32
    ) -> Any:
        """Draws with JAX; within `init_variables` only notes what is to be drawn."""
        if _RECORDING.get():
            return Declared(jnp.zeros(shape, dtype), self)
        if self.kind == "constant":
            return jnp.broadcast_to(jnp.asarray(self.scale, dtype), shape)
        assert key is not None
        deviation = self.deviation(shape)
        if self.kind == "normal":
            return deviation * jax.random.normal(key, shape, dtype)
        limit = math.sqrt(3) * deviation
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draws on the host, float32."""
        if self.kind == "constant":
            return np.broadcast_to(np.asarray(self.scale, np.float32), shape).copy()
        deviation = self.deviation(shape)
        if self.kind == "normal":
            return deviation * generator.standard_normal(shape, np.float32)
        limit = np.float32(math.sqrt(3) * deviation)
        return (2 * generator.random(shape, np.float32) - 1) * limit


class Declared(flax.struct.PyTreeNode, AxisMetadata):
    """Carries a parameter's initialiser through `module.init`, which unboxes it for use."""

    value: Array
    initialiser: Initialiser = flax.struct.field(pytree_node=False)

    def unbox(self) -> Array:
        """Returns the parameter's placeholder."""
        return self.value

    def replace_boxed(self, val: Any) -> "Declared":
        """Returns a box with another placeholder."""
        return self.replace(value=val)

    def add_axis(self, index: int, params: dict) -> "Declared":
        """Returns itself: a lifted parameter is drawn like any other."""
        return self

    def remove_axis(self, index: int, params: dict) -> "Declared":
        """Returns itself: a lifted parameter is drawn like any other."""
        return self


zeros, ones = Initialiser("constant", 0.0), Initialiser("constant", 1.0)
standard_normal = Initialiser("normal", 1.0)
# He et al. 2015 for a leaky ReLU of slope 0.2: variance 2 / ((1 + 0.2^2) fan_in).
he_leaky = Initialiser("normal", 2.0 / (1.0 + 0.2**2), "in")
# For a ReLU, to keep the variance of activations, or (fan-out) of gradients.
he_normal = Initialiser("normal", 2.0, "in")
he_fan_out = Initialiser("normal", 2.0, "out")
# Within +-1 / sqrt(fan_in), what PyTorch's layers begin with.
uniform_fan_in = Initialiser("uniform", 1.0 / 3.0, "in")


@contextlib.contextmanager
def _recording() -> Iterator[None]:
    token = _RECORDING.set(True)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def init_variables(module: nn.Module, seed: int, *args: Any, **kwargs: Any) -> dict:
    """Draws the variables of a module on the host, as each parameter's `Initialiser` says.

    Args:
      module: its parameters are declared with `Initialiser`s.
      seed: of the draws; each leaf has a stream of its own, named by its path.
      *args: example arguments; arrays may be given as `jax.ShapeDtypeStruct`.
      **kwargs: static arguments of `__call__`, such as `train=False`.

    Returns:
      {"params": ..., "batch_stats": ...} of numpy arrays.

    Raises:
      ValueError: naming a leaf that another initialiser declares.
    """
    with _recording():
        declared = jax.eval_shape(lambda *xs: module.init(jax.random.key(0), *xs, **kwargs), *args)

    def draw(path: tuple, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if not isinstance(leaf, Declared):
            raise ValueError(f"{name} is not declared with an Initialiser")
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        return leaf.initialiser.draw(generator, leaf.value.shape).astype(leaf.value.dtype)

    return jax.tree_util.tree_map_with_path(
        draw, declared, is_leaf=lambda leaf: isinstance(leaf, Declared)
    )
