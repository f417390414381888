"""What a stage of training declares: state, step, data and picture; `harness` does the rest."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, Sharding

from ganseg_jax.precision import Precision
from ganseg_jax.training.batches import Batches, no_batches

Scalars = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Says how long a stage is trained, and how often it saves and reports, in updates.

    Attributes:
      num_steps: in all.
      checkpoint_every: between checkpoints.
      log_every: between lines of progress.
      sample_every: between pictures.
      keep_every: checkpoints of its multiples stay; 0 for none.
      keep_best: the figure by which the best checkpoint stays; empty for none.
    """

    num_steps: int
    checkpoint_every: int
    log_every: int
    sample_every: int
    keep_every: int = 0
    keep_best: str = ""

    @classmethod
    def of(cls, section: Any) -> "Schedule":
        """Returns the schedule of a stage's section of the config."""
        fields = dataclasses.fields(cls)
        return cls(**{field.name: getattr(section, field.name) for field in fields})


@dataclasses.dataclass(frozen=True)
class Stage:
    """Declares a stage of training.

    Attributes:
      name: also of its folder.
      schedule: its number of updates and intervals.
      seed: decides the root key.
      init: returns the state before the first update, as host arrays.
      begin: state as initialised -> (state to start with, what that came from, fit for JSON), for a
        stage without checkpoints; None to start with the former.
      step: (root key, constants, state, batch, sharding of batches) -> (state, scalars); pure, and
        `state.step` counts the updates.
      batch: name and value of the setting that says how many images an update has; None if batches
        are not split.
      constants: what every update reads and none changes, as host arrays.
      batches: mesh -> where batches come from.
      inputs: what the stage is made from, by name, fit for JSON; see `training.inputs`.
      derived: whether it is trained again if its inputs change; otherwise the user is asked.
      view: (constants, state) -> arrays of a picture; compiled.
      picture: arrays of `view`, on the host -> uint8 picture (H, W, 3).
      whole: fields of the state that an update needs whole on every device.
      fsdp: split the state over the devices between updates.
      precision: of the networks' products of float32 values; see `precision`.
      parallel: split batches over all devices; otherwise one device does all.
      rare_every: an update takes the dearest branches of the step's conditionals if this divides
        the number of updates before it, else the cheapest.
      retry: if a scalar is not finite, resume from the last checkpoint with other keys.
    """

    name: str
    schedule: Schedule
    seed: int
    init: Callable[[], Any]
    step: Callable[[jax.Array, Any, Any, Any, Sharding], tuple[Any, Scalars]]
    batch: tuple[str, int] | None = None
    constants: Any = ()
    batches: Callable[[Mesh], Batches] = no_batches
    inputs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    derived: bool = True
    begin: Callable[[Any], tuple[Any, dict[str, Any]]] | None = None
    view: Callable[[Any, Any], Any] | None = None
    picture: Callable[[Any], np.ndarray] | None = None
    whole: tuple[str, ...] = ()
    fsdp: bool = False
    precision: Precision = "default"
    parallel: bool = True
    rare_every: int = 1
    retry: bool = False
