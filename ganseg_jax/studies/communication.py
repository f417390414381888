"""What a compiled program sends between devices."""

import dataclasses
import math
import re
from typing import Any

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\("
)
_SHAPE = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_GROUPS = re.compile(r"replica_groups=(?:\[\d+,(\d+)\]|\{\{([\d,]+)\})")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Holds the collectives of one kind in a step.

    Attributes:
      count: how many there are.
      asynchronous: how many of them the device need not wait for.
      bytes: size of all their values, each at its full length: what is reduced, or what a device
        holds after a gather.
    """

    count: int
    bytes: int
    asynchronous: int = 0


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
        found[kind] = Traffic(
            before.count + 1, before.bytes + sum(sizes), before.asynchronous + bool(start)
        )
    return found


def _sizes(text: str) -> list[int]:
    """Returns the bytes of each array type in a line of HLO."""
    return [
        math.prod(int(n) for n in lengths.split(",") if n) * int(bits or 8) // 8
        for _, bits, lengths in _SHAPE.findall(text)
    ]


def _group_size(line: str) -> int:
    groups = _GROUPS.search(line)
    if groups is None:
        return 1
    return int(groups[1]) if groups[1] else groups[2].count(",") + 1
