"""What the values of a folder's masks mean: the values of all its files decide, not of one."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from ganseg_jax.data.legends import LEGEND_FILES
from ganseg_jax.errors import UserError
from ganseg_jax.pixels import UNLABELLED

SOFT_VALUES = 64
"""A grey picture of more values, up to 255, is a soft foreground mask."""

_MOST_STEPS = 12
_PLAIN_INDEX = 20
"""Up to this value, a grey value is taken for the number of a class without further proof."""

_SHARE_IN_USE = 1 / 3
"""Of the numbers up to the highest, as many are in use if they number classes."""

_HIGHEST_INDEX = 200
"""Without names, higher values are shades of an outline: public label maps stop at 182."""

_MOST_LISTED = 6


@dataclasses.dataclass(frozen=True)
class Used:
    """Holds the values that a mask uses.

    Attributes:
      values: 0 to 255, sorted.
      shades: whether a viewer shows them as grey shades; else a palette gives them colours.
    """

    values: tuple[int, ...]
    shades: bool = True

    @property
    def soft(self) -> bool:
        """Returns whether these are the shades of a soft foreground mask."""
        return self.shades and len(self.values) > SOFT_VALUES and self.values[-1] == 255


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Says how the values of a folder's masks are read.

    Attributes:
      table: class of each value; if empty, the values are the classes, and 255 is no ground truth.
      soft: whether values above 127 are foreground.
      void: whether a mask has 255 beside the numbers of classes.
    """

    table: Mapping[int, int] = dataclasses.field(default_factory=dict)
    soft: bool = False
    void: bool = False


def of_folder(masks: Mapping[str, Used], named: int = 0) -> Encoding:
    """Returns how all masks of a folder are read.

    0 and 255 alone, or 0 and one other value above 20 if there are no names of more classes, are
    background and foreground. If a mask is soft, all are. Grey steps of equal height up to 255 are
    the classes 1, 2, ... Otherwise the values are the classes.

    Args:
      masks: what each file uses.
      named: number of classes that have a name, 0 if it is not known.

    Raises:
      UserError: the values do not say which class they are, or masks contradict each other; files
        are named.
    """
    soft = [name for name, used in masks.items() if used.soft and named <= SOFT_VALUES]
    if soft:
        for name, used in masks.items():
            if 0 < max(used.values, default=0) <= _PLAIN_INDEX:
                raise _contradiction(name, used, f"{soft[0]} is a soft foreground mask")
        return Encoding(soft=True)
    values = np.array(sorted({value for used in masks.values() for value in used.values}), int)
    inner = [int(value) for value in values if value not in (0, UNLABELLED)]
    if not inner:
        return Encoding({0: 0, UNLABELLED: 1} if UNLABELLED in values else {})
    if (steps := _steps(values, named)) is not None:
        return Encoding({int(v): round(int(v) * steps / 255) for v in values})
    shades = {v for used in masks.values() if used.shades for v in used.values}
    shades -= {0, UNLABELLED}
    highest = max(shades, default=0)
    dense = len(inner) >= highest * _SHARE_IN_USE and highest <= _HIGHEST_INDEX
    sparse = highest > max(_PLAIN_INDEX, named) and not dense
    if sparse and len(inner) == 1 and named <= 1 and UNLABELLED not in values:
        return Encoding({0: 0, highest: 1})
    if sparse:
        name = next(name for name, used in masks.items() if highest in used.values)
        raise _sparse(name, inner + [UNLABELLED] * (UNLABELLED in values))
    void = any(UNLABELLED in used.values and {*used.values} & {*inner} for used in masks.values())
    if not void and UNLABELLED in values:
        name = next(name for name, used in masks.items() if UNLABELLED in used.values)
        other = next(name for name, used in masks.items() if {*used.values} & {*inner})
        raise _contradiction(other, masks[other], f"{name} only 0 and {UNLABELLED}")
    return Encoding(void=bool(void))


def _contradiction(name: str, used: Used, other: str) -> UserError:
    return UserError(
        f"{name} holds {_listed(used.values)}, {other}: give a class the same value in all masks "
        f"(1, 2, ...; {UNLABELLED} is 'not labelled' beside them)"
    )


def _sparse(name: str, values: list[int]) -> UserError:
    return UserError(
        f"{name}: the masks hold the values {_listed(values)}, which number no classes: save "
        f"classes as 1, 2, ..., or put a {LEGEND_FILES[1]} beside them with the lines Value,Class; "
        f"0,background; {values[0]},NAME and so on"
    )


def _listed(values: tuple[int, ...] | list[int]) -> str:
    """Returns the values, the middle ones left out if they are many."""
    texts = [str(value) for value in values]
    if len(texts) > _MOST_LISTED:
        texts = [*texts[: _MOST_LISTED - 2], "...", texts[-1]]
    return ", ".join(texts)


def _steps(values: np.ndarray, named: int) -> int | None:
    """Returns the number of equal grey steps up to 255 that the values are, or None."""
    if values[-1] != 255 or (named and values[-2] <= named):
        return None
    for steps in [named] if named else range(2, _MOST_STEPS + 1):
        ladder = np.arange(steps + 1) * 255 / steps
        near = [int(np.abs(ladder - value).argmin()) for value in values]
        if (np.abs(ladder[near] - values) < 1).all() and (named or len(set(near)) >= steps):
            return steps
    return None
