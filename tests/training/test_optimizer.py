"""Adam over one vector is Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ganseg_jax.training.optimizer import adam, flat_norm


def test_same_updates_as_parameter_by_parameter():
    params = {"a": jnp.array([1.0, -2.0]), "b": {"c": jnp.array([[0.5]])}}
    ours, plain = adam(0.1, 0.5, 0.9), optax.adam(0.1, b1=0.5, b2=0.9)
    states, both = [ours.init(params), plain.init(params)], [params, params]
    for step in range(3):
        for i, optimizer in enumerate((ours, plain)):
            gradients = jax.tree.map(lambda p, n=step: jnp.sin(3 * p + n), both[i])
            updates, states[i] = optimizer.update(gradients, states[i], both[i])
            both[i] = optax.apply_updates(both[i], updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *both)


def test_norm_of_all_leaves_together():
    assert flat_norm({"a": jnp.array([3.0]), "b": jnp.array([[0.0, 4.0]])}) == pytest.approx(5)
