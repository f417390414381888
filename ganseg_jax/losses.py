"""Losses of the GAN and of the segmenter; all computed in float32."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ganseg_jax import geometry

PenaltyKind = Literal["unit_norm", "r1"]


def generator_adversarial(fake_logits: Float[Array, "b"]) -> Float[Array, ""]:
    """Returns mean softplus(-D(fake))."""
    return jnp.mean(jax.nn.softplus(-fake_logits))


def discriminator_adversarial(
    real_logits: Float[Array, "b"], fake_logits: Float[Array, "b"]
) -> Float[Array, ""]:
    """Returns mean softplus(D(fake)) + mean softplus(-D(real))."""
    return jnp.mean(jax.nn.softplus(fake_logits)) + jnp.mean(jax.nn.softplus(-real_logits))


def penalty_of_gradients(gradients: Float[Array, "b ..."], kind: PenaltyKind) -> Float[Array, "b"]:
    """Returns the penalty of each image's gradient of the logit; see `gradient_penalty`."""
    squared = jnp.sum(jnp.square(gradients.astype(jnp.float32)), axis=range(1, gradients.ndim))
    if kind == "r1":
        return squared
    if kind == "unit_norm":
        # The floor keeps the root differentiable for a discriminator that is flat at an image.
        return jnp.square(jnp.sqrt(jnp.maximum(squared, 1e-20)) - 1.0)
    raise ValueError(f"gradient_penalty.kind must be 'unit_norm' or 'r1', not {kind!r}")


def gradient_penalty(
    discriminator_fn: Callable[[Array], Array], images: Float[Array, "b s s 3"], kind: PenaltyKind
) -> Float[Array, "b"]:
    """Returns the unweighted penalty on the discriminator's gradient at each image.

    Args:
      discriminator_fn: images (B, S, S, 3) to logits (B,), each of its own image alone.
      images: real images in [-1, 1].
      kind: "unit_norm", (||grad D||_2 - 1)^2 (released), or "r1", ||grad D||_2^2 (Mescheder et
        al. 2018, which the paper cites).
    """
    gradients = jax.grad(lambda x: jnp.sum(discriminator_fn(x)))(images)
    return penalty_of_gradients(gradients, kind)


def concentration(
    masks: Float[Array, "b s s m"],
    part_centers: Float[Array, "b k 2"],
    grid: geometry.GridKind = "corners",
) -> Float[Array, "b k"]:
    """Returns sum_p M_k(p) / (sum M_k + 1e-6) ||p - x_k||^2 of each part (GANSeg eq. 9).

    Args:
      masks: background first.
      part_centers: x_k, (row, col) in [-1, 1].
      grid: the generator's kind of grid.

    Returns:
      Mean squared distance of each part's mass to its centre, in squared coordinate units.
    """
    parts = masks[..., 1:].astype(jnp.float32)
    axis = geometry.pixel_axis(masks.shape[1], kind=grid)
    by_row, by_col = jnp.sum(parts, axis=2), jnp.sum(parts, axis=1)  # [B, S, K]
    rows = jnp.square(axis[:, None] - part_centers[:, None, :, 0])  # [B, S, K]
    cols = jnp.square(axis[:, None] - part_centers[:, None, :, 1])  # [B, S, K]
    total = jnp.sum(by_row * rows + by_col * cols, axis=1)
    return total / (jnp.sum(by_row, axis=1) + 1e-6)


def mean_absolute_deviation(points: Float[Array, "b k p 2"]) -> Float[Array, "b k"]:
    """Returns s_k, the mean over points and coordinates of |x_k^i - x_k|."""
    return jnp.mean(jnp.abs(points - jnp.mean(points, axis=2, keepdims=True)), axis=(2, 3))


def area(
    masks: Float[Array, "b s s m"],
    *,
    points: Float[Array, "b k p 2"] | None = None,
    heatmaps: Float[Array, "b s s k"] | None = None,
    counted_at: int | None = None,
) -> Float[Array, "b k"]:
    """Returns how many pixels each part's mask falls short of the area that its points span.

    Args:
      masks: background first.
      points: the released form, max(0, pi (s_k S / 2)^2 - sum_p M_k(p)), with s_k the mean
        absolute deviation of the part's points.
      heatmaps: the paper's form (eq. 10), max(0, sum_p H_k(p) - sum_p M_k(p)). Give one of both.
      counted_at: side of the image in whose pixels the area is counted; None for the masks' own.

    Returns:
      Pixels, by part.
    """
    size = masks.shape[1]
    covered = jnp.sum(masks[..., 1:].astype(jnp.float32), axis=(1, 2))
    if points is not None and heatmaps is None:
        wanted = math.pi * jnp.square(mean_absolute_deviation(points) * size / 2)
    elif heatmaps is not None and points is None:
        wanted = jnp.sum(heatmaps.astype(jnp.float32), axis=(1, 2))
    else:
        raise ValueError("area takes either points (released form) or heatmaps (paper's form)")
    return jnp.maximum(0.0, wanted - covered) * ((counted_at or size) / size) ** 2


def cross_entropy(logits: Float[Array, "b h w c"], labels: Int[Array, "b h w"]) -> Float[Array, ""]:
    """Returns the mean over pixels of -log p(label)."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


def dice(logits: Float[Array, "b h w c"], labels: Int[Array, "b h w"]) -> Float[Array, ""]:
    """Returns 1 - (2 sum p t + 1e-8) / (sum p + sum t + 1e-8), mean over images and classes."""
    p = jax.nn.softmax(logits.astype(jnp.float32))
    t = jax.nn.one_hot(labels, logits.shape[-1], dtype=jnp.float32)
    overlap = jnp.sum(p * t, axis=(1, 2))  # [B, C]
    total = jnp.sum(p, axis=(1, 2)) + jnp.sum(t, axis=(1, 2))
    return jnp.mean(1.0 - (2.0 * overlap + 1e-8) / (total + 1e-8))


def segmentation_loss(
    logits: Float[Array, "b h w c"], labels: Int[Array, "b h w"]
) -> Float[Array, ""]:
    """Returns half cross-entropy, half soft Dice, the background included."""
    return 0.5 * cross_entropy(logits, labels) + 0.5 * dice(logits, labels)
