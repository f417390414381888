"""Figures of generated images, and statistics that are computed once."""

import numpy as np
import pytest

from ganseg_jax import pixels
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import generated, image_quality, statistics_cache
from ganseg_jax.evaluation.statistics_cache import collect


def photos(seed, count, low=-1.0):
    return np.random.default_rng(seed).uniform(low, 1, (count, 16, 16, 3)).astype(np.float32)


def features(images):
    values = images.reshape(len(images), -1).astype(np.float64) / 255
    return np.stack([values.mean(1), values.std(1), values[:, 0], values[:, 1]], -1)


def sampler(low=-1.0, batch=7):
    return lambda index: photos(1000 + index, batch, low)


def real(seed=0, count=60):
    images = pixels.to_uint8(photos(seed, count))
    return images, statistics_cache.collect(iter(np.split(features(images), [25, 50])))


def test_better_samples_have_better_figures():
    images, statistics = real()
    options = {"feature_fn": features, "real_statistics": statistics}
    good = generated.image_figures(sampler(), images, 50, 0, **options)
    bad = generated.image_figures(sampler(low=0.5), images, 50, 0, **options)
    assert set(good) == {
        name + suffix
        for name in ("sliced_wasserstein", "sliced_wasserstein_16", "fid", "kid", "kid_spread")
        for suffix in ("", "_count")
    }
    assert good["fid_count"] == 50 and good["sliced_wasserstein_count"] == 50
    assert good["fid"] < bad["fid"] and good["kid"] < bad["kid"]
    without = generated.image_figures(sampler(), images, 50, 0)
    assert without["sliced_wasserstein"] == good["sliced_wasserstein"] and "fid" not in without


def test_the_floor_is_the_distance_of_other_photos_of_the_same_kind():
    images, _ = real()
    held_out = pixels.to_uint8(photos(seed=5, count=40))

    def coarse(index):
        return photos(1000 + index, 7)[:, ::4, ::4].repeat(4, 1).repeat(4, 2)

    figures = generated.image_figures(coarse, images, 50, 0, held_out=held_out)
    expected = image_quality.sliced_wasserstein(held_out, images, 0)["mean"]
    assert figures["sliced_wasserstein_floor"] == expected < figures["sliced_wasserstein"]
    assert figures["sliced_wasserstein_floor_count"] == 40
    assert "sliced_wasserstein_floor" not in generated.image_figures(sampler(), images, 50, 0)


def test_fid_is_that_of_exactly_the_samples_asked_for():
    images, statistics = real()
    figures = generated.image_figures(
        sampler(), images, 24, 0, feature_fn=features, real_statistics=statistics
    )
    drawn = np.concatenate([sampler()(index) for index in range(4)])[:24]
    expected = collect([features(pixels.to_uint8(drawn))]).statistics
    assert figures["fid"] == pytest.approx(
        image_quality.fid(expected, statistics.statistics), rel=1e-9
    )
    with pytest.raises(ValueError, match="belong together"):
        generated.image_figures(sampler(), images, 4, 0, feature_fn=features)


def load(folder, compute, count=60, weights="a", split="train"):
    return statistics_cache.cached(
        folder,
        dataset="birds/2",
        split=split,
        image_size=16,
        count=count,
        weights=weights,
        compute=compute,
    )


def test_statistics_are_computed_once_and_again_where_they_do_not_fit(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return real()[1]

    first = load(tmp_path, compute)
    second = load(tmp_path, compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(first.statistics.mean, second.statistics.mean)
    np.testing.assert_array_equal(first.statistics.scatter, second.statistics.scatter)
    np.testing.assert_array_equal(first.sample, second.sample)
    assert first.statistics.count == second.statistics.count == 60
    load(tmp_path, compute, count=61)
    load(tmp_path, compute, count=61, weights="b")
    load(tmp_path, compute, split="test")
    assert len(calls) == 4
    path = statistics_cache.cache_path(tmp_path, "birds/2", "test", 16)
    path.write_bytes(path.read_bytes()[:100])
    load(tmp_path, compute, split="test")
    assert len(calls) == 5
    names = ["birds-2-test-16.npz", "birds-2-train-16.npz"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names


def test_statistics_that_cannot_be_kept_are_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*birds-2-train-16\.npz"):
        load(tmp_path / "file", lambda: real()[1])


def test_the_sample_is_bounded(monkeypatch):
    monkeypatch.setattr(statistics_cache, "SAMPLE", 30)
    rows = np.random.default_rng(0).normal(size=(70, 3))
    collected = statistics_cache.collect(iter(np.split(rows, [20, 40])))
    np.testing.assert_allclose(collected.sample, rows[:30], rtol=1e-6)
    assert collected.statistics.count == 70
    with pytest.raises(ValueError, match="no features"):
        statistics_cache.collect([])
