"""Batches drawn on the devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import prng
from ganseg_jax.data import resident
from ganseg_jax.training import partition

COUNT = 10
KEY = prng.root_key(3)


@functools.cache
def indices(batch_size, steps, seed=3):
    draw = jax.jit(resident.batch_indices, static_argnums=(2, 3))
    key = prng.stream(prng.root_key(seed), "order")
    return np.stack([draw(key, jnp.int32(i), batch_size, COUNT) for i in range(steps)])


@pytest.mark.parametrize("batch_size", [4, 5, 10])
def test_every_epoch_is_a_permutation_of_its_own(batch_size):
    drawn = indices(batch_size, 30 // batch_size + 1).ravel()
    epochs = [drawn[i : i + COUNT] for i in (0, COUNT, 2 * COUNT)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])


def test_batch_size_changes_no_order_another_seed_does():
    np.testing.assert_array_equal(indices(4, 8).ravel()[:30], indices(5, 7).ravel()[:30])
    assert not np.array_equal(indices(5, 7), indices(5, 7, seed=4))


@functools.cache
def photos():
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    images[:, :, 0, 0] = np.arange(COUNT)[:, None]  # An image and its mirror image are told apart.
    images[:, :, -1, 0] = 100 + np.arange(COUNT)[:, None]
    return images


def drawn(count, steps, flip=True):
    """The batches of the first steps, on `count` devices."""
    mesh = partition.make_mesh(jax.devices()[:count])
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    draw = jax.jit(
        lambda key, step, images: resident.draw_batch(key, step, images, 8, flip, split),
        in_shardings=(whole, whole, whole),
        out_shardings=split,
    )
    images = partition.place(photos(), whole)
    key = partition.place_key(KEY, whole)
    for i in range(steps):
        batch = draw(key, partition.place(np.int32(i), whole), images)["image"]
        assert [shard.data.shape[0] for shard in batch.addressable_shards] == [8 // count] * count
        yield np.asarray(batch)


def test_same_batches_on_one_device_and_on_four():
    np.testing.assert_array_equal(list(drawn(1, 3)), list(drawn(4, 3)))


def test_images_are_the_set_s_and_half_of_them_mirrored():
    mirrored = []
    for index, batch in zip(indices(8, 20), drawn(1, 20), strict=True):
        for image, i in zip(batch, index, strict=True):
            flipped = image[0, 0, 0] >= 100
            mirrored.append(flipped)
            np.testing.assert_array_equal(image[:, ::-1] if flipped else image, photos()[i])
    assert 0.35 < np.mean(mirrored) < 0.65
    np.testing.assert_array_equal(next(drawn(1, 1, flip=False))[:, 0, 0, 0] < 100, True)
