"""What devices can do at most, by their makers' figures."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """Holds what one device of a slice can do, by its maker's figures.

    Attributes:
      clock: cycles a second.
      flops: of bfloat16 products, a second.
      bandwidth: bytes a second to and from its memory.
      memory: bytes.
    """

    clock: float
    flops: float
    bandwidth: float
    memory: float


CHIPS = {
    "TPU v4": Chip(1.05e9, 137.5e12, 614e9, 16 * 2**30),
    "TPU v5 lite": Chip(1.5e9, 197e12, 819e9, 16 * 2**30),
    "TPU v5": Chip(1.75e9, 459e12, 2765e9, 95 * 2**30),
    "TPU v6 lite": Chip(1.75e9, 918e12, 1640e9, 32 * 2**30),
    "TPU7x": Chip(2.2e9, 1153.5e12, 3690e9, 96 * 2**30),
}
"""Devices of described slices, by JAX's name of them; those in `CORES` are half a chip."""

CORES = ("TPU v4", "TPU7x")
"""Kinds whose described slices have a device for each of a chip's two cores."""

GPUS = {
    "NVIDIA H200": 989.4e12,
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
}
"""FLOP/s of dense bfloat16 products, by the name that JAX gives a GPU."""


def peak_flops(kind: str) -> float | None:
    """Returns the FLOP/s of dense bfloat16 products of a device that JAX runs on.

    Args:
      kind: `jax.Device.device_kind`.

    Returns:
      None if the kind is not known here, as CPUs are.
    """
    if kind == "TPU v4":  # On a host with chips, JAX joins the two cores of one to a device.
        return 2 * CHIPS[kind].flops
    return CHIPS[kind].flops if kind in CHIPS else GPUS.get(kind)
