"""Segmentations brought to the edges of photos: against loops in NumPy, and on simple photos."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import refinement

refine = jax.jit(refinement.refine)


def refine_by_loops(images, probabilities):
    """One pixel after another, as the module's docstring says; sizes up to 32."""
    colors, size = (images + 1) / 2, images.shape[0]
    places = [(r, c) for r in range(size) for c in range(size)]
    q = probabilities.astype(np.float64)
    for _ in range(5):
        new = np.empty_like(q)
        for i in places:
            score = 0.5 * np.log(np.maximum(probabilities[i], 1e-4))
            near = np.array(
                [np.exp(-np.sum((colors[i] - colors[j]) ** 2) / 0.0072) for j in places]
            )
            given = np.array([q[j] for j in places])
            score += np.log(near @ given / (given.sum(0) + 1e-3) + 1e-4)
            for row, col in [(a, b) for a in range(-2, 3) for b in range(-2, 3) if a or b]:
                j = tuple(np.clip([i[0] + row, i[1] + col], 0, size - 1))
                weight = (
                    0.5 * np.exp(-20 * np.sum((colors[i] - colors[j]) ** 2)) / np.hypot(row, col)
                )
                score += weight * q[j]
            new[i] = np.exp(score - score.max()) / np.exp(score - score.max()).sum()
        q = new
    return q


def random_case(size, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.uniform(-0.3, 0.3, (2, size, size, 3)).astype(np.float32)
    logits = rng.standard_normal((2, size, size, classes)).astype(np.float32)
    return images, np.asarray(jax.nn.softmax(logits))


def test_equals_loops_over_pixels():
    images, probabilities = random_case(6)
    refined = refine(images, probabilities)
    for image, given, ours in zip(images, probabilities, refined, strict=True):
        np.testing.assert_allclose(ours, refine_by_loops(image, given), atol=2e-4)


@pytest.mark.parametrize("size", [16, 32, 64, 70])
def test_a_disc_found_too_small_and_aside_is_found_where_it_is(size):
    row, col = np.mgrid[:size, :size] / size - 0.5
    disc = np.hypot(row, col) < 0.3
    found = 1 / (1 + np.exp(15 * (np.hypot(row - 0.06, col) - 0.25)))
    noise = 0.05 * np.random.default_rng(0).standard_normal((size, size, 3))
    image = np.float32(np.where(disc[..., None], [0.5, -0.2, -0.4], [-0.5, 0.1, 0.3]) + noise)
    probabilities = np.float32(np.stack([1 - found, found], -1))
    refined = np.asarray(refine(image[None], probabilities[None]))[0, ..., 1] > 0.5
    assert np.mean((found > 0.5) != disc) > 0.05
    assert np.mean(refined != disc) < 0.002


def test_probabilities_stay_probabilities_and_classes_are_alike():
    images, probabilities = random_case(40, classes=4)
    refined = np.asarray(jax.jit(refinement.refine)(images, probabilities))
    assert refined.dtype == np.float32 and refined.min() >= 0
    np.testing.assert_allclose(refined.sum(-1), 1, atol=1e-5)
    order = [2, 0, 3, 1]
    reordered = np.asarray(refine(images, probabilities[..., order]))
    np.testing.assert_allclose(reordered, refined[..., order], atol=1e-4)


def test_a_photo_on_its_side_has_the_same_edges():
    images, probabilities = (x[:, :24] for x in random_case(40))
    refined = refine(images, probabilities)
    turned = refine(images.swapaxes(1, 2), probabilities.swapaxes(1, 2))
    np.testing.assert_allclose(turned.swapaxes(1, 2), refined, atol=1e-4)


def test_photos_do_not_touch_each_other():
    images, probabilities = random_case(20)
    both = refine(images, probabilities)
    alone = refine(images[1:], probabilities[1:])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_a_photo_without_edges_leaves_the_labels():
    size = 24
    probabilities = np.full((1, size, size, 3), 0.1, np.float32)
    probabilities[:, :10, :, 0] = probabilities[:, 10:18, :, 1] = probabilities[:, 18:, :, 2] = 0.8
    gray = jnp.zeros((1, size, size, 3), jnp.bfloat16)
    refined = np.argmax(refine(gray, probabilities), -1)
    np.testing.assert_array_equal(refined, np.argmax(probabilities, -1))


def test_a_class_that_is_nowhere_comes_from_nowhere():
    images, probabilities = random_case(20, classes=2)
    absent = np.zeros_like(probabilities[..., :1])
    refined = np.asarray(refine(images, np.concatenate([probabilities, absent], -1)))
    assert refined[..., 2].max() < 0.05
