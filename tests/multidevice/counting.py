"""A run of several processes whose step is a sum over all devices; for tests of how runs end.

python -m tests.multidevice.counting WORKDIR STEPS FLAGS_OF_PROCESSES...
"""

import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from ganseg_jax.cli import app, processes
from ganseg_jax.training import loop, partition
from ganseg_jax.training.checkpoint import Checkpoints
from ganseg_jax.training.stage import Schedule

processes.HEARTBEAT_SECONDS = 10  # So that the tests need not wait.


def main(workdir: pathlib.Path, steps: int) -> None:
    mesh = partition.make_mesh()
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    add = jax.jit(
        lambda state, given: ({"total": state["total"] + given.sum()}, {"given": given.sum()}),
        in_shardings=(whole, split),
        out_shardings=whole,
    )
    ones = partition.global_batch(np.ones(jax.local_device_count(), np.float32), mesh)
    first, state = 0, partition.place({"total": np.float32(0)}, whole)
    folder = epath.Path(workdir) / "counting"
    checkpoints = Checkpoints(folder / "checkpoints")

    def step(root, state, given):
        time.sleep(0.05)
        return add(state, ones)

    prepared = loop.Prepared(
        name="counting",
        schedule=Schedule(steps, checkpoint_every=10, log_every=2, sample_every=steps),
        step=step,
        roots=lambda fold: fold,
    )
    try:
        first, state = checkpoints.restore(state) or (first, state)
        print(f"from {first}", flush=True)
        state = loop.run(prepared, folder, checkpoints, first, state)
    finally:
        checkpoints.close()
    print(f"total {float(jnp.asarray(state['total'].addressable_data(0)))}", flush=True)


if __name__ == "__main__":
    workdir, steps = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    sys.argv = ["counting", *sys.argv[3:]]
    app.run(lambda: main(workdir, steps))
