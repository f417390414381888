"""A stage whose step is an addition, to test the loop by itself."""

import dataclasses
from typing import Any

import grain.python as grain
import jax
import numpy as np
from etils import epath

from ganseg_jax.training import loop
from ganseg_jax.training.checkpoint import Checkpoints
from ganseg_jax.training.stage import Schedule


@jax.jit
def _add(state, batch):
    total = state["total"] + batch
    state = {**state, "total": total, "step": state["step"] + 1}
    return state, {"batch": batch, "total": total}


def add(fold, state, batch):
    """The toy's step; its root key is the number of the fold."""
    return _add(state, batch)


def numbers():
    """0, 1, 2, ... in an order of its own, without end."""
    options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)  # Not 500, as by default.
    return iter(grain.MapDataset.range(10).seed(1).shuffle().repeat().to_iter_dataset(options))


@dataclasses.dataclass(frozen=True)
class Toy:
    """A stage and its state before the first step."""

    prepared: loop.Prepared
    state: Any


def stage(num_steps=6, step=add, retry=False, **state) -> Toy:
    """Sums up `numbers`; saves in every second step, logs in every third."""
    prepared = loop.Prepared(
        name="toy",
        schedule=Schedule(num_steps, checkpoint_every=2, log_every=3, sample_every=4),
        step=step,
        roots=lambda fold: fold,
        data=numbers(),
        to_argument=lambda number: jax.device_put(np.float32(number)),
        draw=lambda state: np.full((2, 2, 3), jax.device_get(state["step"]), np.uint8),
        retry=retry,
    )
    return Toy(prepared, jax.device_put({"total": np.float32(0), "step": np.int32(0), **state}))


def run(toy: Toy, workdir):
    """Trains the toy, from its newest checkpoint."""
    folder = epath.Path(workdir) / "toy"
    checkpoints = Checkpoints(folder / "checkpoints")
    try:
        first, state = checkpoints.restore(toy.state, toy.prepared.data) or (0, toy.state)
        if first >= toy.prepared.schedule.num_steps:
            return state
        return loop.run(toy.prepared, folder, checkpoints, first, state)
    finally:
        checkpoints.close()


def add_but(at: int, action):
    """The toy's step, but step `at` (counted from 1) is replaced by `action(state, scalars)`."""

    def step(fold, state, batch):
        state, scalars = _add(state, batch)
        with jax.transfer_guard("allow"):
            return action(state, scalars) if state["step"] == at else (state, scalars)

    return step
