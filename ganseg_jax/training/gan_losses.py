"""What the GAN's two networks are trained to lower, with the weights and intervals of a config."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ganseg_jax import losses
from ganseg_jax.config.schema import Gan
from ganseg_jax.geometry import GridKind
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import GeneratorOutput

Metrics = dict[str, Float[Array, ""]]


def _every(step: jax.Array, interval: int) -> jax.Array | bool:
    return True if interval == 1 else step % interval == 0


def discriminator_gradients(
    discriminator: Discriminator,
    settings: Gan,
    params: Any,
    real: Float[Array, "b s s 3"],
    fake: Float[Array, "b s s 3"],
    step: Int[Array, ""],
) -> tuple[Any, Metrics]:
    """Returns gradients of the discriminator's loss, the penalty's only if the step applies it.

    Args:
      discriminator: the network.
      settings: `config.gan`.
      params: of the network.
      real: photos as it sees them, in [-1, 1].
      fake: generated images as it sees them.
      step: updates done so far.
    """
    s = settings
    # One pass over both: the discriminator treats every image by itself.
    images = jnp.concatenate([real, fake])

    def logits_of(params: Any, images: Array) -> Array:
        logits: Any = discriminator.apply({"params": params}, images)
        return logits

    def adversarial(params: Any) -> tuple[Array, Metrics]:
        real_logits, fake_logits = jnp.split(logits_of(params, images), 2)
        loss = losses.discriminator_adversarial(real_logits, fake_logits)
        return loss, {
            "discriminator": loss,
            "real_logit": jnp.mean(real_logits),
            "fake_logit": jnp.mean(fake_logits),
        }

    def penalty(params: Any) -> Array:
        each = losses.gradient_penalty(
            lambda x: logits_of(params, x), real, s.gradient_penalty.kind
        )
        return s.gradient_penalty.weight * jnp.mean(each)

    gradients, metrics = jax.grad(adversarial, has_aux=True)(params)
    if not s.gradient_penalty.weight:
        return gradients, metrics
    if s.gradient_penalty.interval == 1:
        value, extra = jax.value_and_grad(penalty)(params)
    else:
        value, extra = jax.lax.cond(
            _every(step, s.gradient_penalty.interval),
            jax.value_and_grad(penalty),
            lambda params: (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params)),
            params,
        )
    return jax.tree.map(jnp.add, gradients, extra), metrics | {"gradient_penalty": value}


def without_area(settings: Gan) -> Gan:
    """Returns the settings without the area loss, for networks without points to say an area."""
    return dataclasses.replace(settings, area=dataclasses.replace(settings.area, weight=0.0))


def generator_penalties(
    settings: Gan, output: GeneratorOutput, step: jax.Array, grid: GridKind
) -> Metrics:
    """Returns weighted concentration and area losses of a batch, 0 in steps that skip them."""
    s = settings
    penalties: Metrics = {}
    if s.concentration.weight:
        each = losses.concentration(output.masks, output.part_centers, grid)  # [B, K]
        parts = 1 if s.concentration.reduction == "mean" else each.shape[1]
        weight: float | Array = s.concentration.weight
        if s.concentration.decay_until:
            steps = s.concentration.decay_until - s.concentration.decay_from
            done = jnp.clip((step - s.concentration.decay_from) / steps, 0.0, 1.0)
            weight *= 1.0 + (s.concentration.final_share - 1.0) * done
        applied = jnp.where(_every(step, s.concentration.interval), weight, 0.0)
        penalties["concentration"] = applied * parts * jnp.mean(each)
    if s.area.weight:
        form = (
            dict(points=output.points)
            if s.area.form == "released"
            else dict(heatmaps=output.heatmaps)
        )
        each = losses.area(output.masks, counted_at=s.area.counted_at or None, **form)
        applied = jnp.where(_every(step, s.area.interval), s.area.weight, 0.0)
        penalties["area"] = applied * jnp.mean(jnp.sum(each, axis=1))
    return penalties


def total(terms: Metrics) -> Array:
    """Returns the sum of a loss's terms."""
    return functools.reduce(jnp.add, terms.values())
