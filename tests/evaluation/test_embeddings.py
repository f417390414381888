"""t-SNE of embeddings keeps parts together and puts the background first."""

import numpy as np

from ganseg_jax.evaluation.embeddings import tsne
from ganseg_jax.report.palette import palette
from ganseg_jax.report.plots import plot_embeddings


def embeddings(count=40, parts=3, seed=0):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(parts + 1, 8)) * 5
    everything = directions + rng.normal(0, 0.3, (count, parts + 1, 8))
    return everything[:, 1:], everything[:, 0]


def test_tsne_separates_what_is_separate_and_repeats_itself():
    parts, background = embeddings()
    coordinates = tsne(parts, background, seed=0)
    assert coordinates.shape == (40, 4, 2)
    centers = coordinates.mean(0)
    spread = np.linalg.norm(coordinates - centers, axis=-1).mean()
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=-1)[~np.eye(4, dtype=bool)]
    assert apart.min() > 3 * spread
    np.testing.assert_array_equal(coordinates, tsne(parts, background, seed=0))


def test_few_samples_are_enough():
    parts, background = embeddings(count=2)
    assert np.isfinite(tsne(parts, background, seed=0)).all()


def test_plot_shows_every_part_in_its_color():
    rng = np.random.default_rng(0)
    picture = plot_embeddings(rng.normal(size=(50, 4, 2)) + np.arange(4)[:, None] * 8)
    assert picture.dtype == np.uint8 and picture.ndim == 3
    for color in palette(4)[1:]:
        near = np.abs(picture.astype(int) - color).max(-1) < 45
        assert near.sum() > 50
