"""Trains a declared stage: devices, keys, placement, compilation and pictures, once for all."""

import logging
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, Sharding

from ganseg_jax import checkpoints as saved
from ganseg_jax import files, precision, prng
from ganseg_jax.files import resolve
from ganseg_jax.training import compiling, inputs, loop, partition, start, work
from ganseg_jax.training.batches import Batches
from ganseg_jax.training.checkpoint import Checkpoints
from ganseg_jax.training.stage import Stage

LOG = logging.getLogger(__name__)


@partition.undisturbed()
def train(
    stage: Stage,
    workdir: epath.PathLike,
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> Any:
    """Trains a stage to its last update; resumes from its newest checkpoint.

    Args:
      stage: its declaration.
      workdir: of the run; the stage writes to a folder of its name.
      keep: names of stages that stay as they are even if their inputs have changed.
      retrain: names of stages that are trained again from the start.

    Returns:
      The final state, on the devices.

    Raises:
      UserError: what the stage was made from has changed and the user has to decide; a checkpoint
        does not fit; there is no room to save; a scalar is not finite.
      Stopped: after SIGTERM, with the state saved, or Ctrl-C.
    """
    folder = resolve(workdir) / stage.name
    inputs.settle(stage, folder, keep, retrain)
    mesh = partition.make_mesh(None if stage.parallel else jax.local_devices()[:1])
    if stage.batch is not None:
        partition.check_batch_size(*stage.batch, mesh)
    batches = stage.batches(mesh)
    state = stage.init()
    if stage.begin is not None and not saved.steps(folder / "checkpoints"):
        state, facts = stage.begin(state)
        LOG.info("%s: starts from %s", stage.name, facts["init_from"])
        if jax.process_index() == 0:
            files.write_json(folder / start.FILE, facts)
    shardings = partition.state_shardings(state, mesh, stage.fsdp)
    state = partition.place(state, shardings)
    kept = stage.schedule.keep_every, stage.schedule.keep_best
    checkpoints = Checkpoints(folder / "checkpoints", keep_every=kept[0], keep_best=kept[1])
    try:
        restored = checkpoints.restore(state, batches.data)
        first, state = (0, state) if restored is None else restored
        if first >= stage.schedule.num_steps:
            LOG.info("%s: finished before, at step %d.", stage.name, first)
            return state
        if first:
            LOG.info("%s: resuming from step %d.", stage.name, first)
        prepared = prepare(stage, mesh, batches, state, shardings)
        return loop.run(prepared, folder, checkpoints, first, state)
    finally:
        # However this ends, what was saved in the background must reach the disk.
        checkpoints.close()


def prepare(
    stage: Stage, mesh: Mesh, batches: Batches, state: Any, shardings: Any
) -> loop.Prepared:
    """Compiles a stage's update and picture for a mesh.

    Args:
      stage: its declaration.
      mesh: the devices.
      batches: of the stage, on this mesh.
      state: an example, on the devices.
      shardings: of the state, a tree.
    """
    whole = partition.replicated(mesh)
    constants = partition.place(stage.constants, whole)
    start = time.perf_counter()
    kind = mesh.devices.flat[0].device_kind
    key = f"{stage.name} {_shapes_told(batches.example, state)} {kind} x{mesh.size}"
    compiling.announce(stage.name, key)
    traced = program_of(stage, mesh, batches, shardings).trace(
        _root(stage, mesh), constants, state, batches.example
    )
    lowered = traced.lower()
    program = partition.compile_together(lowered, mesh)
    counted = work.work_of(traced, lowered, program, mesh.size, stage.rare_every, kind)
    compile_seconds = time.perf_counter() - start
    compiling.note(key, compile_seconds)
    return loop.Prepared(
        name=stage.name,
        schedule=stage.schedule,
        step=lambda root, state, given: program(root, constants, state, given),
        roots=lambda fold: _root(stage, mesh, fold),
        data=batches.data,
        to_argument=batches.to_argument,
        draw=_drawing(stage, constants, whole),
        retry=stage.retry,
        batch_size=stage.batch[1] if stage.batch else None,
        work=counted,
        compile_seconds=compile_seconds,
    )


def seconds_per_update(stage: Stage, at_least: int = 7, limit: float = 20.0) -> float:
    """Measures how long an update takes here, compilation aside; keeps nothing of it.

    The first dozens may take several times as long as all later ones (seen on CPUs), so the fastest
    five in a row count, by their median.

    Args:
      stage: its declaration.
      at_least: updates, at least 5; at most 50 are made.
      limit: seconds after which no more are made.
    """
    mesh = partition.make_mesh(None if stage.parallel else jax.local_devices()[:1])
    batches, state = stage.batches(mesh), stage.init()
    shardings = partition.state_shardings(state, mesh, stage.fsdp)
    state = partition.place(state, shardings)
    prepared = prepare(stage, mesh, batches, state, shardings)
    root, times = prepared.roots(0), list[float]()
    while len(times) < at_least or (len(times) < 50 and sum(times) < limit):
        start = time.perf_counter()
        given = prepared.to_argument(None if prepared.data is None else next(prepared.data))
        state, _ = jax.block_until_ready(prepared.step(root, state, given))
        times.append(time.perf_counter() - start)
    return float(min(np.median(times[i : i + 5]) for i in range(len(times) - 4)))


def lower(stage: Stage, mesh: Mesh) -> jax.stages.Lowered:
    """Returns the program of a stage's update for a mesh; the devices need not be there.

    Args:
      stage: its declaration or outline.
      mesh: the devices, or those of a topology's description.
    """
    batches, state = stage.batches(mesh), jax.eval_shape(stage.init)
    shardings = partition.state_shardings(state, mesh, stage.fsdp)
    whole = partition.replicated(mesh)
    root = jax.eval_shape(lambda: prng.root_key(stage.seed))
    program: jax.stages.Lowered = program_of(stage, mesh, batches, shardings).lower(
        partition.shapes(root, whole),
        partition.shapes(stage.constants, whole),
        partition.shapes(state, shardings),
        batches.example,
    )
    return program


def _shapes_told(example: Any, state: Any) -> str:
    """Returns the shapes of a batch and the number of values of the state."""
    batch = [str(getattr(x, "shape", ())) for x in jax.tree.leaves(example)]
    return f"{'+'.join(batch)} {sum(np.size(x) for x in jax.tree.leaves(state))}"


def _drawing(stage: Stage, constants: Any, whole: Sharding) -> Callable[[Any], np.ndarray] | None:
    if stage.view is None or stage.picture is None:
        return None
    view, picture = jax.jit(stage.view, out_shardings=whole), stage.picture
    return lambda state: picture(jax.device_get(view(constants, state)))


def program_of(stage: Stage, mesh: Mesh, batches: Batches, shardings: Any) -> Any:
    """Returns the jitted update: (root key, constants, state, argument) -> (state, scalars).

    Args:
      stage: its declaration.
      mesh: the devices.
      batches: of the stage, on this mesh.
      shardings: of the state, a tree.
    """
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)

    def update(root: jax.Array, constants: Any, state: Any, given: Any) -> Any:
        batch = batches.draw(given, state.step)
        if stage.fsdp:
            parts = {name: getattr(state, name) for name in stage.whole}
            state = state.replace(**partition.gathered(parts, mesh))
        with precision.of_products(stage.precision):
            return stage.step(root, constants, state, batch, split)

    return jax.jit(
        update,
        in_shardings=(whole, whole, shardings, batches.sharding),
        out_shardings=(shardings, whole),
        donate_argnums=2,
    )


def _root(stage: Stage, mesh: Mesh, fold: int = 0) -> jax.Array:
    return partition.place_key(prng.root_key(stage.seed, fold), partition.replicated(mesh))
