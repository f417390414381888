"""A stage whose step is an addition, to test the loop by itself."""

import dataclasses

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np

from ganseg_jax.training.loop import Stage


@jax.jit
def _add(state, batch):
    total = state["total"] + batch
    state = {**state, "total": total, "step": state["step"] + 1}
    return state, {"batch": batch, "total": total}


def numbers():
    """0, 1, 2, ... in an order of its own, without end."""
    return iter(grain.MapDataset.range(10).seed(1).shuffle().repeat().to_iter_dataset())


def stage(num_steps=6, step=_add, **fields) -> Stage:
    """Sums up `numbers`; saves in every second step, logs in every third."""
    toy = Stage(
        name="toy",
        num_steps=num_steps,
        checkpoint_every=2,
        log_every=3,
        sample_every=4,
        step=step,
        state=jax.device_put({"total": jnp.float32(0), "step": jnp.int32(0)}),
        data=numbers(),
        to_batch=jnp.float32,
        draw=lambda state: np.full((2, 2, 3), int(state["step"]), np.uint8),
    )
    return dataclasses.replace(toy, **fields)


def add_but(at: int, action):
    """The toy's step, but step `at` (counted from 1) is replaced by `action(state, scalars)`."""

    def step(state, batch):
        state, scalars = _add(state, batch)
        return action(state, scalars) if state["step"] == at else (state, scalars)

    return step
