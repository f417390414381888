"""Trains a stage for a few updates, as often as wanted, with one compiled program."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from ganseg_jax import prng
from ganseg_jax.training import harness, partition
from ganseg_jax.training.progress import Progress
from ganseg_jax.training.stage import Stage

SHOWN_EVERY = 50
"""Updates between two signs of progress."""


@dataclasses.dataclass(frozen=True)
class Brief:
    """Holds a stage's program and where its batches come from.

    What differs between trainings is an argument of the program: the state that they begin with,
    the constants and the seed. So the second training compiles nothing.

    Attributes:
      program: (root key, constants, state, argument) -> (state, scalars).
      mesh: the devices.
      batches: of the stage, on this mesh.
      shardings: of the state, a tree.
      start: position in the data at which every training begins; None without data.
    """

    program: Any
    mesh: jax.sharding.Mesh
    batches: Any
    shardings: Any
    start: Any

    @classmethod
    def of(cls, stage: Stage) -> "Brief":
        """Returns the program of a stage; it is compiled when it is first used."""
        mesh = partition.make_mesh(None if stage.parallel else jax.local_devices()[:1])
        batches = stage.batches(mesh)
        shardings = partition.state_shardings(jax.eval_shape(stage.init), mesh, stage.fsdp)
        program = harness.program_of(stage, mesh, batches, shardings)
        start = None if batches.data is None else batches.data.get_state()
        return cls(program, mesh, batches, shardings, start)

    def place(self, state: Any) -> Any:
        """Places a state of host arrays on the devices."""
        return partition.place(state, self.shardings)

    def train(
        self,
        state: Any,
        updates: int,
        seed: int,
        constants: Any = (),
        position: Any = None,
        name: str = "",
    ) -> tuple[Any, Any]:
        """Trains for some updates more.

        Args:
          state: on the devices, see `place`; it may be used up.
          updates: how many.
          seed: decides the root key.
          constants: of the stage, on the host or on the devices.
          position: in the data, as returned before; None begins the training's data.
          name: under which progress is shown; "" shows none.

        Returns:
          The state after them, and the position in the data; None without data.
        """
        data = self.batches.data
        if data is not None:
            data.set_state(self.start if position is None else position)
        whole = partition.replicated(self.mesh)
        root = partition.place_key(prng.root_key(seed), whole)
        constants = partition.place(jax.device_get(constants), whole)
        with contextlib.ExitStack() as opened:
            progress = None
            if name:
                progress = opened.enter_context(contextlib.closing(Progress(name, 0, updates)))
            for step in range(1, updates + 1):
                state, _ = self.program(root, constants, state, self._next())
                if progress and (step % SHOWN_EVERY == 0 or step == updates):
                    jax.block_until_ready(state)
                    progress.rate(step)
                    progress.show(step, {})
        return jax.block_until_ready(state), None if data is None else data.get_state()

    def _next(self) -> Any:
        data: Iterator[Any] | None = self.batches.data
        return self.batches.to_argument(None if data is None else next(data))
