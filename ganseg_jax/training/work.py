"""How many operations a stage's updates take, for model FLOPs utilisation."""

import dataclasses
import logging
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from ganseg_jax import chips

LOG = logging.getLogger(__name__)

_SAID: set[str] = set()


@dataclasses.dataclass(frozen=True)
class Work:
    """Holds the FLOPs of a stage's updates, over all devices.

    XLA counts a conditional as its dearest branch. Most updates take another one: the gradient
    penalty, for example, is applied in every n-th. So each update is counted by the branch that it
    takes, and an interval is the sum of its updates.

    Attributes:
      usual: FLOPs of an update that takes the cheapest branch of each conditional.
      rare: FLOPs of one that takes the dearest.
      interval: an update is such a one if this divides the number of updates before it.
      peak: FLOP/s of all devices together, at most.
    """

    usual: float
    rare: float
    interval: int
    peak: float

    def utilization(self, first: int, last: int, seconds: float) -> float:
        """Returns the share of the peak that updates reach.

        Args:
          first: updates before them.
          last: updates after them.
          seconds: that they took.
        """
        rare = -(-last // self.interval) - -(-first // self.interval)
        flops = rare * self.rare + (last - first - rare) * self.usual
        return flops / max(seconds, 1e-9) / self.peak


def work_of(
    traced: Any, lowered: Any, compiled: Any, devices: int, interval: int, kind: str
) -> Work | None:
    """Counts the operations of an update, without compiling anything.

    Where the backend counts before it compiles (CPUs), that count is taken, of the program over all
    devices; elsewhere the compiled program's, of one device, times the devices.

    Args:
      traced: the update, as `jax.stages.Traced`.
      lowered: of `traced`.
      compiled: of `lowered`.
      devices: that it runs on.
      interval: see `Work`.
      kind: of the devices, as JAX names it.

    Returns:
      None if the peak rate of the devices is not known here, which is said once except on CPUs, or
      the backend counts nothing.
    """
    peak = chips.peak_flops(kind)
    if peak is None:
        if kind != "cpu":  # Nobody asks for it there.
            _say_once(f"Model FLOPs utilisation is left out: {kind!r} has no known peak rate.")
        return None
    total = flops(lowered)
    if total is None:
        cost = compiled.cost_analysis() or {}
        cost = cost[0] if isinstance(cost, list) else cost  # Of one program, in some backends.
        total = cost.get("flops", 0.0) * devices
    if total <= 0:
        _say_once("Model FLOPs utilisation is left out: the backend counts no operations.")
        return None
    difference = 0.0 if interval == 1 else _difference(traced.jaxpr.jaxpr)
    if difference is None or difference >= total:
        _say_once("Model FLOPs utilisation is left out: branches cannot be counted apart.")
        return None
    return Work(total - difference, total, interval, peak * devices)


def flops(lowered: Any) -> float | None:
    """Returns XLA's count of operations, over all devices; None if the backend counts nothing.

    Of the program before the backend's own rewriting: afterwards matrix products and convolutions
    are library calls on some devices, which XLA counts as nothing.
    """
    count = (lowered.cost_analysis() or {}).get("flops")
    return count if count and count > 0 else None


def _difference(program: Jaxpr) -> float | None:
    """Returns the FLOPs by which dearest and cheapest branches differ, over all conditionals.

    Conditionals within branches are not looked into, nor those that choose by platform.
    """
    total = 0.0
    for equation in program.eqns:
        parameters = equation.params
        if equation.primitive.name != "cond":
            inner = parameters.get("jaxpr")
            found = _difference(inner.jaxpr) if isinstance(inner, ClosedJaxpr) else 0.0
        elif parameters.get("branches_platforms") is not None:
            continue
        else:
            counts = [_flops_of_branch(branch) for branch in parameters["branches"]]
            known = [count for count in counts if count is not None]
            found = max(known) - min(known) if len(known) == len(counts) else None
        if found is None:
            return None
        total += found
    return total


def _flops_of_branch(branch: ClosedJaxpr) -> float | None:
    """Returns the FLOPs of a branch, counted by the CPU's backend, the one that always counts."""
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:
        return None
    place = jax.sharding.SingleDeviceSharding(cpu)
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x in branch.in_avals]
    cost = jax.jit(jaxpr_as_fun(branch)).lower(*shapes).cost_analysis()
    return None if cost is None else float(cost.get("flops", 0.0))


def _say_once(message: str) -> None:
    if message not in _SAID:
        _SAID.add(message)
        LOG.info(message)
