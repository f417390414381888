"""A generator whose points are pulled at: what does not depend on them is computed once."""

import collections
import dataclasses
import functools
import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.loading import Variables
from ganseg_jax.models.generator import Generator
from ganseg_jax.pixels import to_uint8
from ganseg_jax.studio.work import Pieces

MOST_SAMPLES = 4096
FAR = 2.0
"""How far from the middle a point may be pulled; the image ends at 1."""
SLOW_SECONDS = 0.12
"""If a picture takes longer, drafts of half its size are drawn while a point is pulled."""
_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Holds what is to be drawn; samples are given by their numbers.

    Attributes:
      seed: decides the samples.
      pose: the sample that gives the points.
      look: the sample that gives the parts' appearance.
      background: the sample that gives the background and its place.
      points: in place of those of `pose`; None for its own.
    """

    seed: int
    pose: int
    look: int
    background: int
    points: Float[np.ndarray, "k p 2"] | None = None


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Holds a picture.

    Attributes:
      image: RGB.
      labels: of the most probable part, 0 background.
      sure: by how much it leads, 255 for certain.
      points: (row, col), -1 to 1.
      exact: whether it is the model's own size, not a draft.
    """

    image: UInt8[np.ndarray, "s s 3"]
    labels: UInt8[np.ndarray, "s s"]
    sure: UInt8[np.ndarray, "s s"]
    points: Float[np.ndarray, "k p 2"]
    exact: bool


@functools.partial(jax.jit, static_argnums=0)
def _styles(module: Generator, variables: Variables, latents: Latents) -> Any:
    embeddings, style = module.apply(variables, latents.z_app, latents.z_bg_app, method="styles")
    if not module.use_points:
        return jnp.zeros((1, module.num_parts, module.points_per_part, 2)), embeddings, style
    return module.apply(variables, latents.z_point, method="points"), embeddings, style


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backdrop(
    module: Generator, half: bool, variables: Variables, style: Array, place: Array
) -> tuple[Array, Array]:
    whole: Any = module.apply(variables, style, place, train=False, method="backdrop")
    if not half or whole.ndim == 2:
        return whole, whole
    side = module.image_size // 2
    return whole, jax.image.resize(whole, (1, side, side, whole.shape[-1]), "linear")


@functools.partial(jax.jit, static_argnums=0)
def _masks(module: Generator, variables: Variables, points: Array, embeddings: Array) -> Any:
    return module.apply(variables, points, embeddings, train=False, method="masks_of")


@functools.partial(jax.jit, static_argnums=0)
def _paint(
    module: Generator, variables: Variables, masks: Array, centers: Array, styles: Array, on: Array
) -> Any:
    painted: Any = module.apply(
        variables, masks, centers, styles, on, train=False, method="paint_on"
    )
    best = jax.lax.top_k(masks[0], 2)[0]
    sure = jnp.round(255 * (best[..., 0] - best[..., 1])).astype(jnp.uint8)
    return to_uint8(painted)[0], jnp.argmax(masks[0], -1).astype(jnp.uint8), sure


class Drawing:
    """Draws samples of a generator, with points of one's own.

    Args:
      generator: the module.
      variables: its variables.
    """

    def __init__(self, generator: Generator, variables: Variables):
        self.generator = generator
        self.slow = False
        sizes = tuple(size // 2 for size in generator.stage_sizes)
        self._draft = generator.clone(stage_sizes=sizes, margin=min(1, generator.margin))
        self._can_halve = min(sizes) >= 4 and generator.use_points
        self._variables = jax.device_put(variables)
        self._latents = _Kept(8)
        self._samples, self._backdrops = _Kept(512), _Kept(24)

    def compile(self) -> float:
        """Compiles what draws and returns the seconds that one picture takes."""
        wanted = Wanted(0, 0, 0, 0)
        finished(self.draw(wanted))
        times = []
        for _ in range(3):
            start = time.perf_counter()
            finished(self.draw(wanted))
            times.append(time.perf_counter() - start)
        self.slow = self._can_halve and min(times) > SLOW_SECONDS
        if self.slow:
            self._backdrops.clear()
            finished(self.draw(wanted, draft=True))
        return min(times)

    def draw(self, wanted: Wanted, draft: bool = False) -> Pieces:
        """Draws a picture in pieces, between which other work may come.

        Args:
          wanted: what is to be drawn.
          draft: half its size will do, if the whole takes long.

        Returns:
          A `Drawn`.
        """
        draft = draft and self.slow
        module = self._draft if draft else self.generator
        points = self.sample(wanted.seed, wanted.pose)[0]
        if wanted.points is not None:
            points = jnp.asarray(wanted.points[None], jnp.float32)
        embeddings = self.sample(wanted.seed, wanted.look)[1]
        backdrop = self._backdrop(wanted.seed, wanted.background)[draft]
        masks, centers = _masks(module, self._variables, points, embeddings)
        if self.slow and not draft:
            masks.block_until_ready()
            yield
        made = _paint(module, self._variables, masks, centers, embeddings, backdrop)
        image, labels, sure = map(np.asarray, made)
        return Drawn(image, labels, sure, np.asarray(points)[0], not draft)

    def sample(self, seed: int, number: int) -> tuple[Array, Array, Array, Array]:
        """Returns points, part embeddings, background's style and place of a sample.

        It is the sample that `experiments.sample --seed` numbers so.
        """

        def make() -> Any:
            latents = self._latents_until(seed, number // _AT_ONCE)
            row = jax.tree.map(lambda x: x[number : number + 1], latents)
            return (*_styles(self.generator, self._variables, row), row.u_bg_pos)

        return self._samples.get((seed, number), make)

    def _backdrop(self, seed: int, number: int) -> tuple[Array, Array]:
        def make() -> Any:
            _, _, style, place = self.sample(seed, number)
            return _backdrop(self.generator, self.slow, self._variables, style, place)

        return self._backdrops.get((seed, number), make)

    def _latents_until(self, seed: int, block: int) -> Any:
        def make() -> Any:
            count = (block + 1) * _AT_ONCE
            latents = sample_latents(prng.root_key(seed), count, self.generator.noise_dim)
            return jax.device_get(latents)

        return self._latents.get((seed, block), make)

    def wanted_of(self, content: Any) -> Wanted:
        """Returns what a page asks for.

        Args:
          content: a dict of `seed`, `pose`, `look`, `background` and perhaps `points`.

        Raises:
          UserError: it makes no sense.
        """
        if not isinstance(content, dict):
            raise UserError("an object is needed")
        numbers: dict[str, Any] = {}
        limits = {"seed": 2**31, "pose": MOST_SAMPLES, "look": MOST_SAMPLES}
        for name, most in (limits | {"background": MOST_SAMPLES}).items():
            value = content.get(name)
            if type(value) is not int or not 0 <= value < most:
                raise UserError(f"{name} must be a whole number from 0 to {most - 1}")
            numbers[name] = value
        points = content.get("points")
        return Wanted(**numbers, points=None if points is None else self._points_of(points))

    def _points_of(self, values: Any) -> Float[np.ndarray, "k p 2"]:
        shape = (self.generator.num_parts, self.generator.points_per_part, 2)
        try:
            points = np.array(values, np.float32)
        except (ValueError, TypeError, OverflowError) as error:
            raise UserError("points must be numbers") from error
        if points.shape != shape or not np.isfinite(points).all():
            raise UserError(f"points must be finite numbers of shape {shape}")
        return np.clip(points, -FAR, FAR)


def finished(pieces: Pieces) -> Any:
    """Returns the result of a job in pieces, done at once."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value


class _Kept:
    """Keeps the most recently used results."""

    def __init__(self, most: int):
        self._most, self._results = most, collections.OrderedDict[Hashable, Any]()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        if key not in self._results:
            self._results[key] = make()
        self._results.move_to_end(key)
        while len(self._results) > self._most:
            self._results.popitem(last=False)
        return self._results[key]

    def clear(self) -> None:
        self._results.clear()
