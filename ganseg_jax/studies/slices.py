"""TPU slices that are not there: what they are made of, and how to compile for them."""

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax
    from jax.sharding import Mesh

from ganseg_jax.chips import CHIPS, CORES, Chip
from ganseg_jax.errors import UserError

EXAMPLES = ("v4:2x2x1", "v5e:2x2", "v5e:4x4", "v5p:2x2x1", "v6e:2x2", "tpu7x:2x2x1")


def leave_out_hosts() -> None:
    """Makes libtpu compile without looking for a TPU or a metadata server; call before JAX starts.

    The process itself computes on its CPU.

    Raises:
      UserError: libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError('compiling for a TPU needs its compiler: pip install "ganseg-jax[tpu]"')
    os.environ.update(JAX_PLATFORMS="cpu", TPU_SKIP_MDS_QUERY="1")
    defaults = {"TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def devices_of(topology: str, num_slices: int = 1) -> "Sequence[jax.Device]":
    """Returns the devices of one or more equal slices, to compile for.

    Args:
      topology: kind and shape, "v5e:2x2" for example.
      num_slices: that a job runs on.

    Raises:
      UserError: there is no such slice.
    """
    import jax
    from jax.experimental import topologies

    # Slices of single chips have hosts of their own; all larger ones have hosts of four.
    single = topology.partition(":")[2].replace("x", "").strip("1") == ""
    options: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if single else {}
    if num_slices > 1:
        options["num_slices"] = num_slices
    try:
        described = topologies.get_topology_desc(topology, "tpu", **options)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).partition(": ")[2] or str(error)
        raise UserError(
            f"--topology={topology}: {reason.splitlines()[0]}; there are, for example, "
            f"{', '.join(EXAMPLES)}, and larger ones whose sides are multiples of 2"
        ) from error
    return list(described.devices)


def mesh_of(devices: "Sequence[jax.Device]") -> "Mesh":
    """Returns a mesh of described devices along the `data` axis, as training makes it.

    JAX makes none of single cores, though it compiles for one; their order changes no estimate.
    """
    import numpy as np
    from jax.sharding import AxisType, Mesh

    from ganseg_jax.training import partition

    if devices[0].device_kind not in CORES:
        return partition.make_mesh(list(devices))
    return Mesh(np.array(devices), (partition.DATA_AXIS,), axis_types=(AxisType.Auto,))


def chip_of(device: "jax.Device") -> Chip:
    """Returns what a device can do.

    Raises:
      UserError: its kind is not known here.
    """
    if device.device_kind not in CHIPS:
        raise UserError(
            f"nothing is known here about {device.device_kind}; known are {', '.join(CHIPS)}"
        )
    return CHIPS[device.device_kind]
