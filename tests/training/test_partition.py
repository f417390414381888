"""The mesh and what is put on it."""

import jax
import numpy as np
import pytest

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.training import partition


@pytest.fixture(scope="module")
def mesh():
    return partition.make_mesh(jax.devices()[:4])


def test_batch_is_split_state_is_replicated(mesh):
    local = {"image": np.arange(8 * 3, dtype=np.uint8).reshape(8, 3)}
    batch = partition.global_batch(local, mesh)["image"]
    np.testing.assert_array_equal(batch, local["image"])
    assert [s.data.shape for s in batch.addressable_shards] == [(2, 3)] * 4
    state = partition.place({"a": np.ones((2, 2)), "b": np.int32(3)}, partition.replicated(mesh))
    assert [s.data.shape for s in state["a"].addressable_shards] == [(2, 2)] * 4
    assert state["b"] == 3 and state["b"].sharding.is_fully_replicated


def test_placed_key_draws_the_same(mesh):
    key = prng.root_key(4)
    placed = partition.place_key(key, partition.replicated(mesh))
    draws = [jax.random.normal(prng.step_key(k, 2, "generator"), (3,)) for k in (key, placed)]
    np.testing.assert_array_equal(*draws)


def test_batch_that_cannot_be_split_is_named(mesh):
    partition.check_batch_size("gan.batch_size", 8, mesh)
    for size in (0, 6):
        with pytest.raises(UserError, match=f"gan.batch_size={size} cannot be split over 4"):
            partition.check_batch_size("gan.batch_size", size, mesh)
