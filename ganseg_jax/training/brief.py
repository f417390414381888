"""Trains a stage for a few updates, as often as wanted, with one compiled program."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax

from ganseg_jax import prng
from ganseg_jax.training import harness, partition
from ganseg_jax.training.stage import Stage


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
    """

    program: Any
    mesh: jax.sharding.Mesh
    batches: Any
    shardings: Any

    @classmethod
    def of(cls, stage: Stage) -> "Brief":
        """Returns the program of a stage; it is compiled when it is first used."""
        mesh = partition.make_mesh(None if stage.parallel else jax.local_devices()[:1])
        batches = stage.batches(mesh)
        shardings = partition.state_shardings(jax.eval_shape(stage.init), mesh, stage.fsdp)
        program = harness.program_of(stage, mesh, batches, shardings)
        return cls(program, mesh, batches, shardings)

    def place(self, state: Any) -> Any:
        """Places a state of host arrays on the devices."""
        return partition.place(state, self.shardings)

    def train(self, state: Any, updates: int, seed: int, constants: Any = ()) -> Any:
        """Returns a state after some updates more; the given one may be used up.

        Args:
          state: on the devices; see `place`.
          updates: how many.
          seed: decides the root key.
          constants: of the stage, on the host or on the devices.
        """
        whole = partition.replicated(self.mesh)
        root = partition.place_key(prng.root_key(seed), whole)
        constants = partition.place(jax.device_get(constants), whole)
        for _ in range(updates):
            state, _ = self.program(root, constants, state, self._next())
        return jax.block_until_ready(state)

    def _next(self) -> Any:
        data: Iterator[Any] | None = self.batches.data
        return self.batches.to_argument(None if data is None else next(data))
