"""What the discriminator sees, changed at random: each change against its description."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import pixels, prng
from ganseg_jax.latents import sample_latents
from ganseg_jax.training import gan
from ganseg_jax.training.augmentation import CHANGES, change_images
from ganseg_jax.training.gan_losses import discriminator_gradients
from tests.training.small import BATCH, GENERATOR, assert_equal, differ, photos, small_gan

SIZE = 16
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).uniform(-1, 1, (64, SIZE, SIZE, 3)).astype(np.float32)


def test_without_changes_images_stay(images):
    assert change_images(KEY, images, ()) is images


@pytest.mark.parametrize("changes", [(name,) for name in CHANGES] + [CHANGES])
def test_a_key_decides_the_change(images, changes):
    once, again = (np.asarray(change_images(KEY, images, changes)) for _ in range(2))
    other = np.asarray(change_images(jax.random.key(8), images, changes))
    np.testing.assert_array_equal(once, again)
    assert np.abs(other - once).max() > 0.1
    # Each image has its own.
    same = np.repeat(images[:1], 8, 0)
    changed = np.asarray(change_images(KEY, same, changes))
    assert np.abs(changed - changed[:1]).max(axis=(1, 2, 3))[1:].max() > 0.1


def test_color_moves_the_mean_by_half_and_scales_contrast(images):
    changed = np.asarray(change_images(KEY, images, ("color",)))
    moved = changed.mean((1, 2, 3)) - images.mean((1, 2, 3))
    assert -0.5 <= moved.min() < -0.3 and 0.3 < moved.max() <= 0.5
    grey = np.repeat(images[..., :1], 3, -1)
    changed = np.asarray(change_images(KEY, grey, ("color",)))
    np.testing.assert_allclose(np.ptp(changed, axis=3), 0, atol=1e-6)  # Grey stays grey.
    scale = changed.std((1, 2, 3)) / grey.std((1, 2, 3))
    assert 0.5 <= scale.min() < 0.7 and 1.3 < scale.max() <= 1.5


def test_translation_moves_whole_pixels_and_fills_with_grey(images):
    changed = np.asarray(change_images(KEY, images, ("translation",)))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))  # An eighth of 16.
    found = []
    for before, after in zip(padded, changed, strict=True):
        fits = [
            (row, col)
            for row in range(5)
            for col in range(5)
            if np.array_equal(before[row : row + SIZE, col : col + SIZE], after)
        ]
        assert len(fits) == 1
        found += fits
    assert len(set(found)) > 15


def test_cutout_blanks_a_square_of_half_the_side(images):
    changed = np.asarray(change_images(KEY, images, ("cutout",)))
    blank = (changed == 0).all(-1)
    np.testing.assert_array_equal(changed[~blank], images[~blank])
    rows, cols = blank.any(2), blank.any(1)
    np.testing.assert_array_equal(blank, rows[:, :, None] & cols[:, None, :])
    sides = np.stack([rows.sum(1), cols.sum(1)])
    assert sides.max() == 8 and sides.min() >= 4  # Less where the centre is near the border.


def test_gradients_pass():
    def loss(images):
        return jnp.sum(change_images(KEY, images, CHANGES) ** 2)

    gradient = np.asarray(jax.grad(loss)(jnp.full((4, SIZE, SIZE, 3), 0.5)))
    assert np.isfinite(gradient).all() and np.abs(gradient).max(axis=(1, 2, 3)).min() > 0


def test_both_updates_see_changed_images():
    plain = small_gan(share_fakes=True)
    settings = dataclasses.replace(plain.settings, discriminator_augment="color,cutout")
    networks = dataclasses.replace(plain, settings=settings)
    state = gan.init_state(networks, 0)
    real = pixels.to_unit_range(photos(0)["image"])
    latents = sample_latents(jax.random.key(1), BATCH, GENERATOR.noise_dim)

    @jax.jit
    def update(key):
        return gan.update(networks, state, real, latents, latents, key)[0]

    @jax.jit
    def discriminator_of(key):
        """The discriminator's update written out."""
        fake, _ = networks.generator.apply(
            state.generator, latents, train=True, mutable=["batch_stats"]
        )
        changes = settings.discriminator_augment.split(",")
        real_seen = change_images(prng.stream(key, "real"), real, changes)
        fake_seen = change_images(prng.stream(key, "fake"), fake.image, changes)
        params = state.discriminator["params"]
        gradients, _ = discriminator_gradients(
            *(plain.discriminator, plain.settings, params, real_seen, fake_seen, state.step)
        )
        updates, _ = plain.discriminator_optimizer.update(
            gradients, state.discriminator_opt, params
        )
        return jax.tree.map(jnp.add, params, updates)

    first, second = update(KEY), update(jax.random.key(8))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        first.discriminator["params"],
        discriminator_of(KEY),
    )
    assert differ(first.discriminator, second.discriminator)
    assert differ(first.generator, second.generator)
    assert_equal(first.generator["params"], update(KEY).generator["params"])
