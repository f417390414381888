"""Says if photos hardly look like those that a model is for, by the model's own answers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

MANY = 0.5
"""Share of unusual photos from which on it is said."""

FEW, STRICTER = 5, 1.2
"""Of fewer photos it is said only if they lie further out by this factor: 1 in 100 does."""


def describe(entry: Mapping[str, Any]) -> Float[np.ndarray, " d"]:
    """Returns a photo's answer as numbers: roots of the parts' shares, then their centres.

    Args:
      entry: of `parts.json`.
    """
    size = np.array([entry["height"], entry["width"]], float)
    areas = np.sqrt([part["area"] / size.prod() for part in entry["parts"]])
    centers = np.concatenate([np.array(part["center"]) / size for part in entry["parts"]])
    return np.concatenate([areas, centers])


def unusual_share(content: Mapping[str, Any], typical: Mapping[str, Any]) -> float:
    """Returns the share of photos whose answers are unlike those for the model's own test photos.

    Args:
      content: of `parts.json`.
      typical: "mean" and "deviation" of `describe` over the model's test photos, and "beyond":
        the mean distance in deviations (root of the mean square) that one in twenty exceeds.
    """
    described = np.stack([describe(entry) for entry in content["photos"].values()])
    distance = (described - np.array(typical["mean"])) / np.array(typical["deviation"])
    beyond = typical["beyond"] * (STRICTER if len(described) < FEW else 1)
    return float((np.sqrt((distance**2).mean(1)) > beyond).mean())


def warning(content: Mapping[str, Any], about: Mapping[str, Any], name: str) -> str:
    """Returns a line for photos that hardly look like a model's own, or "".

    Measured with `people`: 5 % of its own test photos are unusual (150 on which nothing was
    fitted), 68 % of horses and of blood cells, 73 % of cars, 83 % of faces.

    Args:
      content: of `parts.json`.
      about: of `packed.about`.
      name: of the model.
    """
    if "typical" not in about or not content["photos"]:
        return ""
    parts = len(next(iter(content["photos"].values()))["parts"])
    if 3 * parts != len(about["typical"]["mean"]):
        return ""  # A person has merged or hidden parts, so the answers are others.
    share = unusual_share(content, about["typical"])
    if share <= MANY:
        return ""
    which = f"{100 * share:.0f} % of these photos look"
    if len(content["photos"]) == 1:
        which = "this photo looks"
    return (
        f"note: {which} unlike what {name} was trained on ({about['what']}), so the parts may mean "
        "little"
    )
