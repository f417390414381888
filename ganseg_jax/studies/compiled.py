"""What the compiler says of a program for TPUs: its own estimate, operation by operation.

The text of a compiled program gives the cycles that the compiler expects of each operation. They
depend on the program and the compiler's version alone, not on the machine that compiles, so two
programs can be compared to the last digit. They are an estimate, not a measurement: operations that
overlap are added, and collectives are not counted.
"""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*? ([a-z][a-z\-]*)\(")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r'op_name="([^"]*)"')
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TWO_BRANCHES = re.compile(r"true_computation=%?([\w.\-]+), false_computation=%?([\w.\-]+)")
_BODY = re.compile(r"body=%?([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CALLED = re.compile(r"(?:to_apply|calls)=%?([\w.\-]+)")


@dataclasses.dataclass(frozen=True)
class Operation:
    """Holds one operation of a compiled program.

    Attributes:
      kind: its name in HLO, "fusion" for example.
      name: where our code asked for it; "" if it was not ours.
      cycles: that the compiler expects.
      branches: names of the computations of which a conditional runs one.
      body: name of the computation that a loop repeats or a call runs.
      repeats: how often.
    """

    kind: str
    name: str
    cycles: int
    branches: tuple[str, ...] = ()
    body: str = ""
    repeats: int = 1


@dataclasses.dataclass(frozen=True)
class Program:
    """Holds a compiled program's computations, by name, and which one it begins with."""

    computations: Mapping[str, tuple[Operation, ...]]
    entry: str

    def cycles(self, choose: Callable[..., int], computation: str = "") -> int:
        """Returns the expected cycles of one run.

        Args:
          choose: `min` for the cheapest branch of each conditional, `max` for the dearest.
          computation: where to begin; "" for the program.
        """
        total = 0
        for operation in self.computations[computation or self.entry]:
            total += operation.cycles
            if operation.branches:
                total += choose(self.cycles(choose, name) for name in operation.branches)
            if operation.body:
                total += operation.repeats * self.cycles(choose, operation.body)
        return total

    def by_name(self) -> list[tuple[str, int]]:
        """Returns (module, cycles) of all branches together, the dearest first."""
        summed: collections.Counter[str] = collections.Counter()

        def add(computation: str, repeats: int) -> None:
            for operation in self.computations[computation]:
                summed[module_of(operation)] += repeats * operation.cycles
                for name in operation.branches:
                    add(name, repeats)
                if operation.body:
                    add(operation.body, repeats * operation.repeats)

        add(self.entry, 1)
        return [(name, cycles) for name, cycles in summed.most_common() if cycles]


def parse(text: str) -> Program:
    """Reads the text of a compiled program.

    Args:
      text: what `jax.stages.Compiled.as_text` gives.
    """
    computations: dict[str, list[Operation]] = {}
    current: list[Operation] = []
    entry = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif found := _OPERATION.match(line):
            current.append(_operation(found[1], line))
    return Program({name: tuple(found) for name, found in computations.items()}, entry)


def _operation(kind: str, line: str) -> Operation:
    cycles, name = _CYCLES.search(line), _NAME.search(line)
    branches: tuple[str, ...] = ()
    body = ""
    if kind == "conditional":
        if listed := _BRANCHES.search(line):
            branches = tuple(each.strip().lstrip("%") for each in listed[1].split(","))
        elif two := _TWO_BRANCHES.search(line):
            branches = two.groups()
    elif kind == "while" and (found := _BODY.search(line)):
        body = found[1]
    elif kind == "call" and (found := _CALLED.search(line)):
        body = found[1]
    trips = _TRIPS.search(line) if kind == "while" else None
    return Operation(
        kind,
        name[1] if name else "",
        int(cycles[1]) if cycles else 0,
        branches,
        body,
        int(trips[1]) if trips else 1,
    )


_WRAPPED = re.compile(r"(?:transpose|jvp|vmap|rematted_computation|checkpoint)\((.*)\)")
_LEFT_OUT = re.compile(r"jit\(.*\)|cond|branch_\d+_fun|while|body|closed_call|[a-z]\w*\.\d+")


def module_of(operation: Operation) -> str:
    """Returns the module that asked for an operation, and which derivative of it this is.

    For example, "Generator/mask_generator/block_1/conv_0 (gradient)".
    """
    passes = operation.name.count("transpose(")
    parts = []
    for part in operation.name.split("/")[:-1]:  # The last one is the operation itself.
        while wrapped := _WRAPPED.fullmatch(part):
            part = wrapped[1]
        method = re.fullmatch(r"[A-Z]\w*\.\w+", part)  # Generator.decode, for example.
        if part and not method and not _LEFT_OUT.fullmatch(part):
            parts.append(part)
    path = "/".join(parts) or f"({operation.kind})"
    return path + ("", " (gradient)", " (gradient of the penalty)")[min(passes, 2)]
