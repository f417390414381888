"""Parameters and optimiser split over the devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from ganseg_jax import prng
from ganseg_jax.training import batches, checkpoint, gan, harness, partition
from ganseg_jax.training.stage import Schedule, Stage
from tests.training.small import BATCH, SIZE, assert_equal, small_gan
from tests.training.small import photos as batch_of

STEPS = 6


@pytest.fixture(scope="module", autouse=True)
def small_leaves_count_as_large():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partition, "MIN_SHARDED", 16)
        yield


def source(mesh):
    """The photos of a step as they are."""
    split = partition.batch_split(mesh)
    shape = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), jnp.uint8, sharding=split)
    return batches.Batches(
        data=None,
        to_argument=lambda local: partition.global_batch(local, mesh),
        draw=lambda batch, step: batch,
        sharding=split,
        example={"image": shape},
    )


@functools.cache
def trained(sharded):
    """State and losses after six steps on four devices."""
    mesh = partition.make_mesh(jax.devices()[:4])
    networks = dataclasses.replace(small_gan(), flat_adam=not sharded)
    state = gan.init_state(networks, 0)
    whole = partition.replicated(mesh)
    shardings = partition.state_shardings(state, mesh, sharded)
    given = source(mesh)
    stage = Stage(
        name="gan",
        schedule=Schedule(STEPS, STEPS, 1, STEPS),
        seed=0,
        init=lambda: state,
        step=lambda root, constants, state, batch, split: gan.step(
            networks, root, state, batch, split
        ),
        inputs={},
        fsdp=sharded,
        whole=("generator", "discriminator"),
    )
    step = harness.program_of(stage, mesh, given, shardings)
    state, losses = partition.place(state, shardings), []
    root = partition.place_key(prng.root_key(0), whole)
    for i in range(STEPS):
        state, scalars = step(root, (), state, given.to_argument(batch_of(i)))
        losses.append(jax.device_get(scalars))
    return state, losses


def bytes_on_one_device(state):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(state))


def test_same_losses_as_replicated():
    for ours, expected in zip(trained(True)[1], trained(False)[1], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(ours[name], value, rtol=2e-3, atol=1e-5, err_msg=name)


def test_each_device_holds_less():
    sharded, whole = (trained(s)[0] for s in (True, False))
    sizes = [sum(x.size for x in jax.tree.leaves(state)) for state in (sharded, whole)]
    assert abs(sizes[0] - sizes[1]) < 4
    assert bytes_on_one_device(sharded) < 0.5 * bytes_on_one_device(whole)
    # The step keeps the shardings that the state was born with.
    expected = partition.state_shardings(sharded, sharded.step.sharding.mesh, True)
    for leaf, sharding in zip(jax.tree.leaves(sharded), jax.tree.leaves(expected), strict=True):
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


@pytest.mark.parametrize("count", [1, 2])
def test_checkpoint_restored_on_other_devices(tmp_path, count):
    state = trained(True)[0]
    checkpoints = checkpoint.Checkpoints(tmp_path)
    checkpoints.save(STEPS, state)
    mesh = partition.make_mesh(jax.devices()[:count])
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    like = partition.place(like, partition.state_shardings(like, mesh, True))
    step, restored = checkpoints.restore(like)
    checkpoints.close()
    assert step == STEPS
    assert_equal(restored, state)
    assert all(len(x.sharding.device_set) == count for x in jax.tree.leaves(restored))


def test_largest_axis_that_divides_is_split():
    mesh = partition.make_mesh(jax.devices()[:4])
    shapes = {"a": (8, 12), "b": (9, 4), "c": (5, 7), "d": (4,), "e": ()}
    tree = {name: np.zeros(shape) for name, shape in shapes.items()}
    specs = {name: s.spec for name, s in partition.state_shardings(tree, mesh, True).items()}
    assert specs["a"] == specs["b"] == PartitionSpec(None, partition.DATA_AXIS)
    # None divides, too few elements, a scalar.
    assert specs["c"] == specs["d"] == specs["e"] == PartitionSpec()
