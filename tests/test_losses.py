"""Losses against cases worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import losses


def softplus(x):
    return np.log1p(np.exp(x))


def test_adversarial_losses():
    real, fake = np.array([0.0, 2.0]), np.array([-1.0, 3.0])
    assert losses.generator_adversarial(fake) == pytest.approx((softplus(1) + softplus(-3)) / 2)
    expected = (softplus(-1) + softplus(3)) / 2 + (softplus(0) + softplus(-2)) / 2
    assert losses.discriminator_adversarial(real, fake) == pytest.approx(expected)


IMAGES = np.random.default_rng(0).standard_normal((3, 2, 2, 3)).astype(np.float32)


def test_gradient_penalty_of_a_linear_discriminator():
    """D(x) = <a, x> has the gradient a everywhere."""
    a = np.zeros((2, 2, 3), np.float32)
    a[0, 1, 2], a[1, 0, 0] = 3, 4

    def linear(x):
        return jnp.sum(x * a, axis=(1, 2, 3))

    np.testing.assert_allclose(losses.gradient_penalty(linear, IMAGES, "r1"), [25] * 3)
    np.testing.assert_allclose(losses.gradient_penalty(linear, IMAGES, "unit_norm"), [16] * 3)


def test_gradient_penalty_of_a_quadratic_discriminator():
    """D(x) = |x|^2 / 2 has the gradient x."""
    norm = np.sqrt(np.sum(IMAGES**2, axis=(1, 2, 3)))

    def quadratic(x):
        return jnp.sum(x * x, axis=(1, 2, 3)) / 2

    r1 = losses.gradient_penalty(quadratic, IMAGES, "r1")
    np.testing.assert_allclose(r1, norm**2, rtol=1e-5)
    unit = losses.gradient_penalty(quadratic, IMAGES, "unit_norm")
    np.testing.assert_allclose(unit, (norm - 1) ** 2, rtol=1e-5)


def test_gradient_penalty_of_a_flat_discriminator_is_differentiable():
    def penalty(scale):
        flat = losses.gradient_penalty(lambda x: scale * jnp.sum(x, (1, 2, 3)), IMAGES, "unit_norm")
        return jnp.sum(flat)

    value, slope = jax.value_and_grad(penalty)(0.0)
    assert value == pytest.approx(3) and np.isfinite(slope)


def test_unknown_penalty_is_named():
    with pytest.raises(ValueError, match="'r2'"):
        losses.penalty_of_gradients(IMAGES, "r2")


def two_part_masks():
    """3 x 3 pixels: part 1 is two whole pixels, part 2 half of one, the rest background."""
    masks = np.zeros((1, 3, 3, 3), np.float32)
    masks[0, 0, 0, 1] = masks[0, 0, 2, 1] = 1.0
    masks[0, 2, 1, 2] = 0.5
    masks[..., 0] = 1 - masks[..., 1:].sum(-1)
    return masks


def test_concentration_by_hand():
    centers = np.array([[[-1.0, 0.0], [0.0, 0.0]]], np.float32)
    # Part 1: both pixels are 1 from (-1, 0). Part 2: (1, 0) is 1 from the middle.
    result = losses.concentration(two_part_masks(), centers)
    np.testing.assert_allclose(result, [[1.0, 1.0]], atol=1e-5)
    moved = losses.concentration(two_part_masks(), centers + np.float32([1, 0]))
    np.testing.assert_allclose(moved, [[2.0, 0.0]], atol=1e-5)


def test_concentration_uses_the_grid_of_the_generator():
    centers = np.array([[[-2 / 3, 0.0], [2 / 3, 0.0]]], np.float32)
    result = losses.concentration(two_part_masks(), centers, "centers")
    np.testing.assert_allclose(result, [[4 / 9, 0.0]], atol=1e-5)


def test_concentration_of_an_empty_part_is_zero():
    masks = np.zeros((1, 3, 3, 2), np.float32)
    masks[..., 0] = 1
    np.testing.assert_allclose(losses.concentration(masks, np.ones((1, 1, 2))), [[0.0]])


def test_paper_area_by_hand():
    heatmaps = np.full((1, 3, 3, 2), 0.5, np.float32)  # 4.5 pixels wanted of each part.
    result = losses.area(two_part_masks(), heatmaps=heatmaps)
    np.testing.assert_allclose(result, [[2.5, 4.0]])
    counted = losses.area(two_part_masks(), heatmaps=heatmaps, counted_at=12)
    np.testing.assert_allclose(counted, [[40.0, 64.0]])
    np.testing.assert_allclose(losses.area(two_part_masks(), heatmaps=heatmaps / 9), [[0.0, 0.0]])


def test_released_area_by_hand():
    # Part 1: absolute deviations 0.6 and 0.2, mean 0.4. Part 2: all points at one place.
    points = np.array([[[[0.6, 0.2], [-0.6, -0.2]], [[0.3, 0.3], [0.3, 0.3]]]], np.float32)
    np.testing.assert_allclose(losses.mean_absolute_deviation(points), [[0.4, 0.0]], atol=1e-6)
    result = losses.area(two_part_masks(), points=points)
    np.testing.assert_allclose(result, [[max(0, np.pi * 0.6**2 - 2), 0.0]], atol=1e-5)
    wide = losses.area(two_part_masks(), points=3 * points)
    np.testing.assert_allclose(wide, [[np.pi * 1.8**2 - 2, 0.0]], rtol=1e-5, atol=1e-5)


def test_area_takes_one_form():
    masks = two_part_masks()
    for both in ({}, {"points": np.zeros((1, 2, 2, 2)), "heatmaps": masks[..., 1:]}):
        with pytest.raises(ValueError, match="either points"):
            losses.area(masks, **both)


LOGITS = np.log(np.array([[[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]], np.float32))  # [1, 1, 2, 3]
LABELS = np.array([[[0, 1]]])


def test_cross_entropy_by_hand():
    expected = -(np.log(0.5) + np.log(0.8)) / 2
    assert losses.cross_entropy(LOGITS, LABELS) == pytest.approx(expected, rel=1e-6)


def test_dice_by_hand():
    # Class 0: p 0.6, t 1, both 0.5. Class 1: p 1.05, t 1, both 0.8. Class 2: p 0.35, absent.
    each = [1 - 1.0 / 1.6, 1 - 1.6 / 2.05, 1 - 1e-8 / 0.35]
    assert losses.dice(LOGITS, LABELS) == pytest.approx(np.mean(each), rel=1e-5)


def test_dice_is_of_each_image_then_the_mean():
    logits = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 3, (2, 3, 3))
    each = [losses.dice(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    assert losses.dice(logits, labels) == pytest.approx(np.mean(each), rel=1e-5)


def test_segmentation_loss_is_half_and_half():
    expected = 0.5 * losses.cross_entropy(LOGITS, LABELS) + 0.5 * losses.dice(LOGITS, LABELS)
    assert losses.segmentation_loss(LOGITS, LABELS) == pytest.approx(float(expected), rel=1e-6)
    sure = np.where(np.arange(3) == LABELS[..., None], 50.0, -50.0)
    # A class that is absent and not predicted counts as a full match.
    assert losses.segmentation_loss(sure, LABELS) == pytest.approx(0, abs=1e-6)


def test_losses_are_float32_for_bfloat16_logits():
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    for loss in (losses.cross_entropy, losses.dice, losses.segmentation_loss):
        assert loss(logits, LABELS).dtype == jnp.float32
