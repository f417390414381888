"""Projection: finds the latents that reproduce a real image by optimisation.

Karras et al. 2020 (StyleGAN2, appendix D): Adam with warm-up and ramp-down, decaying noise on the
latents, and noise maps that are kept free of image content.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ganseg_jax import prng, rules
from ganseg_jax.fewshot.features import average_down
from ganseg_jax.fewshot.source import Source

# Distance [B] between two batches of images [B, S, S, 3] in [-1, 1].
Distance = Callable[[Array, Array], Array]


Space = Literal["w", "w+", "latents"]
"""What is looked for: one style for all layers, one for each, or latents as they are drawn."""


@dataclasses.dataclass(frozen=True)
class ProjectionSettings:
    """Sets how latents are optimised.

    Attributes:
      space: for StyleGAN2 "w" (one style) or "w+" (one for each layer); for GANSeg "latents".
      num_steps: Adam steps.
      learning_rate: at its highest.
      warm_up: first part of the steps, in which the rate rises linearly.
      ramp_down: last part of the steps, in which it falls as a cosine.
      noise: of the latents, in standard deviations of random latents, at the start.
      noise_until: part of the steps after which the noise is gone (falling as a square).
      pixel_weight: of the mean squared pixel error.
      noise_regularization: weight of the noise maps' correlation with themselves shifted.
      candidates: random latents of which GANSeg starts from the nearest; also those that
        StyleGAN2's mean and spread of styles are estimated from.
      seed: of the candidates and the noise.
    """

    space: Space = "w+"
    num_steps: int = 1000
    learning_rate: float = 0.1
    warm_up: float = 0.05
    ramp_down: float = 0.25
    noise: float = 0.05
    noise_until: float = 0.75
    pixel_weight: float = 1.0
    noise_regularization: float = 1e5
    candidates: int = 512
    seed: int = 0


@flax.struct.dataclass
class ProjectionState:
    """Holds what is optimised, and Adam's moments."""

    step: Int[Array, ""]
    latents: Any
    noise_maps: dict[str, Array]
    optimizer: Any


def multiscale_distance(
    images: Float[Array, "#b h w 3"], targets: Float[Array, "#b h w 3"]
) -> Float[Array, "_"]:
    """Returns the squared error of pixels and of their differences to neighbours, at halved sizes.

    It stands in if no perceptual network is given. Sizes go down to 8 pixels with equal weights.
    """
    total, count = jnp.zeros(images.shape[0], jnp.float32), 0
    error = images - targets
    while True:
        axes = (1, 2, 3)
        total += jnp.mean(jnp.square(error), axes)
        total += jnp.mean(jnp.square(jnp.diff(error, axis=1)), axes)
        total += jnp.mean(jnp.square(jnp.diff(error, axis=2)), axes)
        count += 1
        if error.shape[1] < 16 or error.shape[1] % 2:
            return total / count
        error = average_down(error, error.shape[1] // 2)


def noise_correlation(noise: Float[Array, "b h w 1"]) -> Float[Array, ""]:
    """Returns the squared mean product of noise and its shift by one pixel, at halved sizes."""
    total = jnp.zeros((), jnp.float32)
    while True:
        for axis in (1, 2):
            total += jnp.sum(jnp.square(jnp.mean(noise * jnp.roll(noise, 1, axis), (1, 2, 3))))
        if noise.shape[1] <= 8:
            return total
        noise = average_down(noise, noise.shape[1] // 2) * 2.0  # keeps the variance of white noise


def learning_rate(settings: ProjectionSettings) -> optax.Schedule:
    """Returns a schedule: linear warm-up, constant, cosine ramp-down to zero."""

    def schedule(step: Array) -> Array:
        part = step / settings.num_steps
        down = jnp.minimum(1.0, (1.0 - part) / settings.ramp_down)
        down = 0.5 - 0.5 * jnp.cos(math.pi * down)
        return settings.learning_rate * down * jnp.minimum(1.0, part / settings.warm_up)

    return schedule


@rules.usual()
def project(
    source: Source,
    variables: Any,
    targets: Float[Array, "b s s 3"],
    settings: ProjectionSettings,
    *,
    distance: Distance = multiscale_distance,
    report: Callable[[int, float], None] = lambda step, loss: None,
    log_every: int = 100,
) -> tuple[Any, Any]:
    """Optimises one latent for each image.

    Args:
      source: the generator.
      variables: its variables.
      targets: images in [-1, 1] of the generator's size.
      settings: see `ProjectionSettings`.
      distance: perceptual distance; by default one that needs no network.
      report: called with (steps done, mean loss of the images) every `log_every` steps.
      log_every: steps.

    Returns:
      The latents [B, ...], and the variables with the noise maps found ([B, H, W, 1] each; only
      StyleGAN2 has noise): `source.generate` of the two gives image and features.

    Raises:
      ValueError: the space is not one of this generator.
    """
    spaces = ("w", "w+") if source.is_stylegan2 else ("latents",)
    if settings.space not in spaces:
        raise ValueError(f"space must be one of {spaces} here, not {settings.space!r}")
    targets = jnp.asarray(targets)
    root = prng.root_key(settings.seed)
    latents, spread = _start(source, variables, targets, settings, distance, root)
    noise_maps = {}
    if source.is_stylegan2:
        batch = targets.shape[0]
        for name, x in variables["noise"].items():
            key = prng.stream(root, name)
            noise_maps[name] = jax.random.normal(key, (batch, *x.shape[1:]), jnp.float32)
    optimizer = optax.adam(learning_rate(settings))
    state = ProjectionState(
        jnp.int32(0), latents, noise_maps, optimizer.init((latents, noise_maps))
    )
    for step in range(1, settings.num_steps + 1):
        state, loss = _step(source, settings, distance, variables, state, targets, spread, root)
        if step % log_every == 0 or step == settings.num_steps:
            report(step, float(loss))
    return state.latents, {**variables, **({"noise": state.noise_maps} if noise_maps else {})}


def _start(
    source: Source,
    variables: Any,
    targets: Array,
    settings: ProjectionSettings,
    distance: Distance,
    root: jax.Array,
) -> tuple[Any, Any]:
    """Returns latents to start from, and the deviation of random latents (same structure)."""
    key, batch = prng.stream(root, "candidates"), targets.shape[0]
    candidates = source.sample(variables, key, settings.candidates)
    if source.is_stylegan2:
        mean = jnp.mean(candidates, axis=0)
        # As published: one number, the root mean square distance from the mean.
        spread = jnp.sqrt(jnp.sum(jnp.square(candidates - mean)) / settings.candidates)
        shape: tuple[int, ...] = (batch, mean.size)
        if settings.space == "w+":
            shape = (batch, source.module.num_styles, mean.size)
        return jnp.broadcast_to(mean, shape), spread

    @jax.jit
    def distances(variables, latents, targets):
        image = source.images(variables, jax.tree.map(lambda x: x[None], latents))
        return distance(jnp.broadcast_to(image, targets.shape), targets)

    table = np.stack(
        [
            distances(variables, jax.tree.map(lambda x, i=i: x[i], candidates), targets)
            for i in range(settings.candidates)
        ]
    )  # [candidates, B]
    nearest = np.argmin(table, axis=0)
    start = jax.tree.map(lambda x: x[nearest], candidates)
    return start, jax.tree.map(jnp.std, candidates)


@functools.partial(
    jax.jit, static_argnames=("source", "settings", "distance"), donate_argnames="state"
)
def _step(
    source: Source,
    settings: ProjectionSettings,
    distance: Distance,
    variables: Any,
    state: ProjectionState,
    targets: Array,
    spread: Any,
    root: jax.Array,
) -> tuple[ProjectionState, Array]:
    part = state.step / settings.num_steps
    strength = settings.noise * jnp.square(jnp.maximum(0.0, 1.0 - part / settings.noise_until))
    leaves, structure = jax.tree.flatten(state.latents)
    keys = jax.random.split(prng.step_key(root, state.step, "noise"), len(leaves))
    offsets = [
        jax.random.normal(key, x.shape, jnp.float32) for key, x in zip(keys, leaves, strict=True)
    ]
    spreads = jax.tree.leaves(spread)
    offsets = [x * strength * s for x, s in zip(offsets, spreads, strict=True)]
    offsets = jax.tree.unflatten(structure, offsets)

    def loss_of(free):
        latents, noise_maps = free
        noisy = jax.tree.map(jnp.add, latents, offsets)
        here = {**variables, "noise": noise_maps} if noise_maps else variables
        images = source.images(here, noisy)
        pixel = jnp.mean(jnp.square(images - targets), axis=(1, 2, 3))
        losses = distance(images, targets) + settings.pixel_weight * pixel
        correlation = sum(noise_correlation(x) for x in noise_maps.values())
        # Summed over the images, so that each is optimised as if it were alone.
        return jnp.sum(losses) + settings.noise_regularization * correlation, losses

    free = (state.latents, state.noise_maps)
    gradients, losses = jax.grad(loss_of, has_aux=True)(free)
    updates, optimizer = optax.adam(learning_rate(settings)).update(gradients, state.optimizer)
    latents, noise_maps = optax.apply_updates(free, updates)
    # Adam must not shrink the noise away or turn it into a picture.
    axes = (1, 2, 3)
    noise_maps = {
        name: (x - jnp.mean(x, axes, keepdims=True)) / jnp.std(x, axes, keepdims=True)
        for name, x in noise_maps.items()
    }
    return ProjectionState(state.step + 1, latents, noise_maps, optimizer), jnp.mean(losses)
