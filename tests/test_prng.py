"""Keys are pure functions of seed, step and name; latents come from streams of their own."""

import jax
import numpy as np
import pytest

from ganseg_jax import prng, sample_latents


def bits(key):
    return tuple(np.asarray(jax.random.key_data(key)).tolist())


def test_a_key_depends_on_seed_step_scope_and_name():
    keys = {
        (seed, step, scope, name): bits(
            prng.stream(prng.step_key(prng.root_key(seed), step, scope), name)
        )
        for seed in (0, 1)
        for step in (0, 1)
        for scope in ("generator", "discriminator")
        for name in prng.LATENT_STREAMS
    }
    assert len(set(keys.values())) == len(keys)


def test_keys_are_the_same_on_every_call_and_for_traced_steps():
    root = prng.root_key(3)
    expected = bits(prng.step_key(root, 7, "generator"))
    traced = jax.jit(lambda step: prng.step_key(root, step, "generator"))(7)
    assert bits(prng.step_key(root, 7, "generator")) == bits(traced) == expected
    assert prng.streams(root).keys() == set(prng.LATENT_STREAMS)


def test_latents_have_their_distributions():
    latents = sample_latents(prng.root_key(0), 2000, 3)
    for name in ("z_point", "z_app", "z_bg_app"):
        values = np.asarray(getattr(latents, name))
        assert values.shape == (2000, 3) and values.dtype == np.float32
        np.testing.assert_allclose(values.mean(0), 0, atol=0.08)
        np.testing.assert_allclose(np.cov(values.T), np.eye(3), atol=0.12)
    position = np.asarray(latents.u_bg_pos)
    assert position.shape == (2000, 2) and -1 <= position.min() and position.max() < 1
    np.testing.assert_allclose(position.var(0), 1 / 3, atol=0.03)  # Uniform on [-1, 1].


@pytest.mark.parametrize("changed", prng.LATENT_STREAMS)
def test_each_latent_has_a_stream_of_its_own(changed):
    keys = prng.streams(prng.root_key(0))
    before = sample_latents(keys, 4, 5)
    after = sample_latents(keys | {changed: prng.root_key(9)}, 4, 5)
    for name in prng.LATENT_STREAMS:
        same = np.array_equal(getattr(before, name), getattr(after, name))
        assert same == (name != changed)


def test_one_key_stands_for_its_streams():
    key = prng.root_key(5)
    whole, split = sample_latents(key, 2, 3), sample_latents(prng.streams(key), 2, 3)
    jax.tree.map(np.testing.assert_array_equal, whole, split)
