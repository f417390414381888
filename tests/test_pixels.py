"""Label maps at other sizes against the probabilities that they come from."""

import numpy as np
import pytest

from ganseg_jax import pixels


def smooth(height, width, classes, seed=0):
    """Probabilities with regions, as of a network: (H, W, C)."""
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((height // 4 + 1, width // 4 + 1, classes)).astype(np.float32)
    scores = np.exp(6 * pixels.resize_probabilities(coarse, height, width))
    return (scores / scores.sum(-1, keepdims=True)).astype(np.float32)


def drawn(height, width, classes, seed=0):
    """Probabilities without any regions."""
    drawn = np.random.default_rng(seed).dirichlet(np.ones(classes), (height, width))
    return drawn.astype(np.float32)


SIZES = [(32, 32, 300, 200), (32, 32, 32, 33), (32, 32, 33, 20), (9, 16, 90, 160), (32, 32, 10, 9)]


@pytest.mark.parametrize("height, width, rows, columns", [*SIZES, (1, 1, 4, 7), (2, 1, 9, 1)])
@pytest.mark.parametrize("make", [smooth, drawn])
def test_labels_are_the_argmax_of_the_resized_probabilities(make, height, width, rows, columns):
    probabilities = make(height, width, 5)
    expected = pixels.resize_probabilities(probabilities, rows, columns).argmax(-1)
    labels = pixels.most_probable(probabilities, rows, columns, np.uint8)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected)


def test_a_class_may_win_between_pixels_where_it_wins_at_none():
    """Two classes take turns; the third, everywhere second, is above both half way."""
    row = np.array([[0.6, 0.0, 0.4], [0.0, 0.6, 0.4]], np.float32)
    labels = pixels.most_probable(row[None], 9, 18)
    assert labels[0].tolist() == sorted(labels[0].tolist(), key=[0, 2, 1].index)
    assert set(labels[0]) == {0, 1, 2}


def test_ties_go_to_the_first_class():
    even = np.full((4, 4, 3), 1 / 3, np.float32)
    assert (pixels.most_probable(even, 40, 30) == 0).all()
    # One bit apart: which of the two it is follows from rounding; no other class is taken.
    near = np.random.default_rng(0).uniform(0.2, 0.4, (6, 6)).astype(np.float32)
    nearly = np.stack([near / 2, near, np.nextafter(near, np.float32(1))], -1)
    resized = pixels.resize_probabilities(nearly, 60, 50)
    labels = pixels.most_probable(nearly, 60, 50)
    taken = np.take_along_axis(resized, labels[..., None], -1)[..., 0]
    np.testing.assert_allclose(taken, resized.max(-1), atol=1e-6)
