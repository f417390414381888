"""What a picture shows of a network's classes: names, colours, and which of them are one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, UInt8

from ganseg_jax.report.palette import palette


@dataclasses.dataclass(frozen=True)
class Classes:
    """Holds what is made of a network's classes.

    Attributes:
      names: of the classes that are left, background first.
      colors: likewise.
      groups: for each class of the network, the class that it becomes.
    """

    names: tuple[str, ...]
    colors: UInt8[np.ndarray, "c 3"]
    groups: tuple[int, ...]

    def of_labels(self, labels: Integer[np.ndarray, "*b"]) -> Integer[np.ndarray, "*b"]:
        """Returns what labels of the network become; negative ones, of no class, stay."""
        labels = np.asarray(labels)
        become = np.asarray(self.groups, labels.dtype)
        return np.where(labels < 0, labels, become[np.maximum(labels, 0)])

    def of_masks(self, masks: Float[np.ndarray, "*b g"]) -> Float[np.ndarray, "*b c"]:
        """Returns what masks of the network become: those of one class are added."""
        joined = np.zeros((len(self.groups), len(self.names)), masks.dtype)
        joined[np.arange(len(self.groups)), self.groups] = 1
        return masks @ joined


def usual(names: Sequence[str] | int) -> Classes:
    """Returns the classes of a network that nobody has changed.

    Args:
      names: background first, or their number, for "part 1" and so on.
    """
    if isinstance(names, int):
        names = ("background", *(f"part {number}" for number in range(1, names)))
    return Classes(tuple(names), palette(len(names)), tuple(range(len(names))))
