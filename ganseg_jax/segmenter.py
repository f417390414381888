"""A trained network as a function from photos to parts."""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from ganseg_jax import pixels, rules, runtime
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation.landmarks import part_centers
from ganseg_jax.graph.kinds import Network
from ganseg_jax.precision import Precision

if TYPE_CHECKING:  # A photo is segmented on a CPU without JAX.
    import flax.linen as nn
    import jax

Engine = Literal["jax", "onnxruntime"]


class Deferred(NamedTuple):
    """Holds what is known of a network before it is built, which takes JAX.

    Attributes:
      build: returns the module.
      num_classes: background included.
      network: how it is written as a graph; None if it cannot be.
    """

    build: "Callable[[], nn.Module]"
    num_classes: int
    network: Network | None


class Segmenter:
    """Segments photos of any size: uint8 (N, H, W, 3) to int32 labels (N, H, W), background 0.

    One photo (H, W, 3) and lists of photos of mixed sizes are segmented too.

    Photos are resized to the training size as the photos of training sets are, without keeping the
    aspect ratio, and the probabilities are resized back.

    Args:
      module: a network from images in [-1, 1] to logits (a `DeepLabV3`, for example), with
        `num_classes`; or what will build it if it is needed.
      variables: its variables.
      image_size: side of the images it was trained on; None to run at each photo's own size.
      batch_size: photos segmented at a time.
      classes: their names, background first; None if the parts have none.
      refine: bring the probabilities to the edges of each photo's colours
        (`ganseg_jax.refinement`), at the size that the network sees; may be changed at any time.
      precision: how exactly an accelerator multiplies (`ganseg_jax.precision`).
      groups: for each class of the network, the class that it counts as; None if each is its own.
      colors: of the classes, for pictures; None for those of `report.palette`.
      engine: what computes the probabilities: JAX, or onnxruntime on the CPU, which is faster
        there and compiles nothing. The two differ by rounding, 1e-4 at most.
    """

    def __init__(
        self,
        module: "nn.Module | Deferred",
        variables: Any,
        image_size: int | None,
        batch_size: int = 32,
        classes: Sequence[str] | None = None,
        refine: bool = False,
        precision: Precision = "highest",
        groups: Sequence[int] | None = None,
        colors: UInt8[np.ndarray, "c 3"] | None = None,
        engine: Engine = "jax",
    ):
        self._network, self.host_variables = module, variables
        self.image_size, self.batch_size = image_size, batch_size
        self.classes = None if classes is None else tuple(classes)
        self.refine, self.precision, self.engine = refine, precision, engine
        self.groups = None if groups is None else tuple(groups)
        self.colors = colors
        self._sessions: dict[tuple[Any, ...], runtime.Session] = {}

    @property
    def num_classes(self) -> int:
        """Returns the number of classes, the background among them."""
        return self._network.num_classes if self.groups is None else max(self.groups) + 1

    @functools.cached_property
    def module(self) -> "nn.Module":
        """Returns the network."""
        return self._network.build() if isinstance(self._network, Deferred) else self._network

    @functools.cached_property
    def variables(self) -> Any:
        """Returns the network's variables, on the devices."""
        import jax

        return jax.device_put(self.host_variables)

    def __call__(self, images: Any) -> Any:
        """Returns the most probable class of every pixel.

        Args:
          images: uint8 photos (N, H, W, 3), one photo (H, W, 3), or a list or tuple of photos, each
            of any size.

        Returns:
          int32 labels of the same form: (N, H, W), (H, W), or a list of (H, W).
        """
        if isinstance(images, list | tuple):
            photos = [_checked(np.asarray(image)[None])[0] for image in images]
            if self.image_size is None or not photos:  # Each at its own size.
                return [self(photo[None])[0] for photo in photos]
            seen = [self.as_seen(photo[None])[0] for photo in photos]
            small = self.probabilities_as_seen(np.stack(seen))
            return [
                pixels.most_probable(p, *photo.shape[:2])
                for p, photo in zip(small, photos, strict=True)
            ]
        if np.ndim(images) == 3:
            return self(np.asarray(images)[None])[0]
        shape = _checked(images).shape[:3]
        small = self.probabilities_as_seen(self.as_seen(images))
        return _stack([pixels.most_probable(p, *shape[1:]) for p in small], shape, np.int32)

    def probabilities(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w c"]:
        """Returns the probability of every class at every pixel."""
        shape = _checked(images).shape[:3]
        small = self.probabilities_as_seen(self.as_seen(images))
        resized = [pixels.resize_probabilities(p, *shape[1:]) for p in small]
        return _stack(resized, (*shape, self.num_classes), np.float32)

    def part_centers(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n k 2"]:
        """Returns (row, col) of every part's centre of mass, in pixels of the photo."""
        height, width = _checked(images).shape[1:3]
        return self.centers_of(self.probabilities_as_seen(self.as_seen(images)), height, width)

    def as_seen(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]] | UInt8[np.ndarray, "n h w 3"]
    ) -> UInt8[np.ndarray, "n s t 3"]:
        """Returns photos, each of any size, at the size that the network sees."""
        if self.image_size is None:
            return np.asarray(images)
        small = [pixels.shrink(image, self.image_size) for image in images]
        return _stack(small, (0, self.image_size, self.image_size, 3), np.uint8)

    def probabilities_as_seen(
        self, small: UInt8[np.ndarray, "n s t 3"]
    ) -> Float[np.ndarray, "n s t c"]:
        """Returns the probabilities of photos at the size that the network sees."""
        results = []
        for start in range(0, len(small), self.batch_size):
            batch = small[start : start + self.batch_size]
            if self.engine == "onnxruntime":
                results.append(self._session()(batch))
                continue
            # Always the same shape: a compiled program for each remainder would be wasteful.
            missing = min(self.batch_size, len(small)) - len(batch)
            padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
            results.append(np.asarray(self.apply(self.variables, padded))[: len(batch)])
        shape = (*small.shape[:3], self.num_classes)
        return np.concatenate(results) if results else np.zeros(shape, np.float32)

    def graph_of(self) -> tuple[Network, Any]:
        """Returns how the network is written as a graph, and its variables, on the host.

        Raises:
          UserError: it is of another kind than those that can be.
        """
        from ganseg_jax.graph.kinds import of_module

        given = self._network
        network = given.network if isinstance(given, Deferred) else of_module(given)
        if network is None:
            raise UserError(
                f"a {type(self.module).__name__} cannot be written as an ONNX graph, only DeepLab "
                "and U-Net in float32: take StableHLO"
            )
        return network, self.host_variables

    def _session(self) -> runtime.Session:
        settings = self.image_size, self.refine, self.groups
        if settings not in self._sessions:
            self._sessions[settings] = runtime.Session(
                *self.graph_of(), self.image_size, self.refine, self.groups
            )
        return self._sessions[settings]

    def apply(self, variables: Any, images: Any) -> "jax.Array":
        """Returns what `probabilities_as_seen` does, as a pure function for programs in JAX.

        It may be compiled, mapped, sharded and differentiated with them: in reverse mode
        (`jax.grad`, `jax.vjp`), and with `refine=False`.

        Args:
          variables: those of `segment.variables`, or others of the same network.
          images: in [0, 255], at the size that the network sees (`image_size`), (N, S, T, 3).

        Returns:
          Probabilities, (N, S, T, C).
        """
        from ganseg_jax.forward import predict

        settings = self.module, self.refine, self.precision, self.groups
        with rules.usual():
            return predict(*settings, variables, images)

    @staticmethod
    def centers_of(
        probabilities: Float[np.ndarray, "n s t c"], height: int, width: int
    ) -> Float[np.ndarray, "n k 2"]:
        """Returns part centres in pixels of photos whose probabilities are given as seen."""
        scale = np.array([height, width]) / probabilities.shape[1:3]
        return part_centers(probabilities) * scale


def _checked(images: Any) -> np.ndarray:
    if "jax" in sys.modules and isinstance(images, sys.modules["jax"].core.Tracer):
        raise TypeError(
            "photos of any size are no input of a traced function (jit, vmap, grad, pmap): use "
            "segmenter.apply(segmenter.variables, images) there"
        )
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            "images must be uint8 (N, H, W, 3), one photo (H, W, 3) or a list of photos, not "
            f"{images.dtype} {images.shape}"
        )
    if 0 in images.shape[1:3]:
        raise ValueError(f"a photo needs at least one pixel, and these are {images.shape}")
    return images


def _stack(rows: list[np.ndarray], shape: tuple[int, ...], dtype: type) -> np.ndarray:
    return np.stack(rows) if rows else np.zeros(shape, dtype)
