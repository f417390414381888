"""What a compiled program sends between devices, and what that makes of it on more of them."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]+)\})")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Collectives of one kind in a step.

    Attributes:
      count: how many there are.
      bytes: size of all their values, each at its full length: what is reduced, or what a device
        holds after a gather.
    """

    count: int
    bytes: int


def communication(compiled: Any) -> dict[str, Traffic]:
    """Counts the collectives of a compiled program by kind, both branches of each condition.

    Args:
      compiled: what `jax.jit(...).lower(...).compile()` gives.
    """
    found: dict[str, Traffic] = {}
    for line in compiled.as_text().splitlines():
        operation = _COLLECTIVE.search(line)
        if operation is None or " = " not in line[: operation.start() + 1]:
            continue
        kind, start = operation.groups()
        sizes = _sizes(line[line.index(" = ") : operation.start()])
        if start and kind in ("all-gather", "collective-permute"):
            sizes = sizes[len(sizes) // 2 :]  # (what goes in, what comes out)
        if kind == "reduce-scatter":
            sizes = [size * _group_size(line) for size in sizes]
        before = found.get(kind, Traffic(0, 0))
        found[kind] = Traffic(before.count + 1, before.bytes + sum(sizes))
    return found


def _sizes(text: str) -> list[int]:
    """Bytes of each array type in a line of HLO."""
    return [
        math.prod(int(n) for n in lengths.split(",") if n) * int(bits or 8) // 8
        for _, bits, lengths in _SHAPE.findall(text)
    ]


def _group_size(line: str) -> int:
    groups = _GROUPS.search(line)
    if groups is None:
        return 1
    return int(groups[1]) if groups[1] else groups[2].count(",") + 1


@dataclasses.dataclass(frozen=True)
class Chip:
    """Holds what is assumed of one device and of the network.

    Attributes:
      flops: operations a second that the step reaches, not the peak.
      bandwidth: bytes a second that a device sends while it receives as many.
      latency: seconds a message takes to the next device of a tree.
    """

    flops: float
    bandwidth: float
    latency: float


def step_seconds(
    flops: float, traffic: Mapping[str, Traffic], chips: int, chip: Chip
) -> tuple[float, float]:
    """Estimates a step's seconds: of computing, and of communication that nothing overlaps with.

    Computing is divided evenly. Reducing n bytes among c devices sends 2 n (c - 1) / c from each
    (ring: Patarasuk and Yuan 2009), the other kinds half of that; each collective takes the latency
    of a tree up and down, 2 log2 c messages.

    Args:
      flops: of the step over all devices.
      traffic: what `communication` counted.
      chips: number of devices.
      chip: what is assumed of them.
    """
    moved = sum(t.bytes * (2 if kind == "all-reduce" else 1) for kind, t in traffic.items())
    sent = moved * (chips - 1) / chips
    messages = sum(t.count for t in traffic.values()) * 2 * math.log2(chips)
    return flops / chips / chip.flops, sent / chip.bandwidth + messages * chip.latency
