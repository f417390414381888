"""One mesh with one axis, `data`: batch split, state replicated or, for large ones, sharded.

Batch statistics, losses and gradients are means over the global batch because the compiled step
sees the global batch; the same code runs on one CPU and on a TPU pod slice.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import multihost

from ganseg_jax import rules
from ganseg_jax.errors import UserError

DATA_AXIS = "data"
MIN_SHARDED = 2**14
"""Elements that make a leaf worth sharding."""


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Returns a mesh of all devices (of all processes) along the `data` axis."""
    devices = jax.devices() if devices is None else devices
    slices = {getattr(device, "slice_index", None) for device in devices}
    if len(slices) > 1:
        # Neighbours on the axis are of one slice: fewest values go through the slower network.
        each = (len(devices) // len(slices),)
        arranged = mesh_utils.create_hybrid_device_mesh(each, (len(slices),), devices)
        return Mesh(arranged, (DATA_AXIS,), axis_types=(AxisType.Auto,))
    return jax.make_mesh(
        (len(devices),), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=devices
    )


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hides the mesh and the rules that a caller has set for a program of its own.

    The jobs place arrays on meshes of theirs, which JAX does not mix with the mesh around them
    (`jax.set_mesh`); for the rules see `rules.usual`.
    """
    with jax.set_mesh(Mesh(np.empty((), object), ())), rules.usual():
        yield


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_split(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a leading axis that is split over the devices."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def state_shardings(state: Any, mesh: Mesh, fsdp: bool) -> Any:
    """Returns the sharding of each leaf of a state.

    With `fsdp`, for states that are too large for one device (ZeRO: Rajbhandari et al. 2020), each
    leaf of at least `MIN_SHARDED` elements is split along its largest axis that the devices divide
    evenly. The others, and those without such an axis, are replicated.

    Args:
      state: arrays or their shapes.
      mesh: the devices.
      fsdp: split large leaves.

    Returns:
      A tree of `NamedSharding`.
    """

    def sharding(x: Any) -> NamedSharding:
        shape = np.shape(x)
        fitting = [axis for axis, length in enumerate(shape) if length and length % mesh.size == 0]
        if not fsdp or np.prod(shape) < MIN_SHARDED or not fitting:
            return replicated(mesh)
        axis = max(fitting, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, DATA_AXIS))

    return jax.tree.map(sharding, state)


def gathered(tree: Any, mesh: Mesh) -> Any:
    """Makes sharded values whole, in a compiled step, where they are used."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Raises `UserError`, naming `field`, if the batch cannot be split evenly."""
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"{field}={batch_size} cannot be split over {mesh.size} devices: "
            f"choose a multiple of {mesh.size}"
        )


def place(tree: Any, sharding: Any) -> Any:
    """Places host arrays, equal on every process, on the devices, each device's share alone.

    Args:
      tree: host arrays.
      sharding: see `shapes`.
    """

    def put(sharding: NamedSharding, x: Any) -> jax.Array:
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    with jax.transfer_guard("allow"):  # It is asked for.
        return _with_sharding(put, sharding, tree)


def shapes(tree: Any, sharding: Any) -> Any:
    """Returns the shapes of arrays as they lie on the devices, to compile for without placing any.

    Args:
      tree: arrays or shapes.
      sharding: one for all of them, or a tree with one for each, or for each branch.
    """

    def shape(sharding: NamedSharding, x: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return _with_sharding(shape, sharding, tree)


def _with_sharding(make: Callable[[NamedSharding, Any], Any], sharding: Any, tree: Any) -> Any:
    """Returns what `make` gives for each leaf of `tree` and the sharding at or above it."""
    return jax.tree.map(
        lambda s, branch: jax.tree.map(lambda x: make(s, x), branch), sharding, tree
    )


def global_batch(local: Any, mesh: Mesh) -> Any:
    """Returns this process's part of a batch as part of a global array, split over the mesh."""
    sharding = batch_split(mesh)
    with jax.transfer_guard("allow"):  # It is asked for.
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), local)


def place_key(key: jax.Array, sharding: NamedSharding) -> jax.Array:
    """Places a random key, equal on every process, on the devices."""
    data = place(jax.device_get(jax.random.key_data(key)), sharding)
    return jax.random.wrap_key_data(data)


def wait_for_all(name: str, hours: float = 12) -> None:
    """Waits until every process is here; unlike JAX's collectives, as long as it takes."""
    everyone = set(range(jax.process_count()))
    multihost.sync_global_processes(name, timeout=int(3600 * hours), processes=everyone)


def compile_together(lowered: Any, mesh: Mesh) -> Any:
    """Compiles a function lowered for a mesh on all processes.

    Otherwise a process that finds its program in the cache is minutes ahead of the others at the
    first collective, and those of CPUs give up after 30 seconds.
    """
    compiled = lowered.compile(compiler_options=compiler_options(mesh))
    wait_for_all("compiled")
    return compiled


def compiler_options(mesh: Mesh) -> dict[str, int | bool]:
    """Returns the options that a mesh's programs are compiled with; accelerators need none.

    On a CPU a step's time goes to library kernels, so LLVM need not optimise the others much:
    compiling the puppets' step takes a quarter less time, and the step is as fast. If devices
    communicate, each must do so in the same order. The scheduler that looks for concurrency does
    not ensure that, and processes would mistake the messages of one collective for another's.
    """
    options: dict[str, int | bool] = {}
    if mesh.devices.flat[0].platform == "cpu":
        if "xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
            options["xla_backend_optimization_level"] = 1
        if mesh.size > 1:
            options["xla_cpu_enable_concurrency_optimized_scheduler"] = False
    return options


def anywhere(flag: bool, after: Any) -> bool:
    """Says whether the flag is set on any process; all of them must ask.

    Waits for the arrays `after`: if two programs that communicate run at once, CPUs mistake the
    messages of one for the other's.
    """
    if jax.process_count() == 1:
        return flag
    jax.block_until_ready(after)
    return bool(multihost_utils.process_allgather(np.bool_(flag)).any())
