"""Names the states of a run's networks: of which stage, after how many updates, averaged or raw."""

import dataclasses
from typing import Literal

from ganseg_jax.config.schema import Config
from ganseg_jax.errors import UserError

Weights = Literal["averaged", "raw"]


@dataclasses.dataclass(frozen=True)
class State:
    """Says which state of a run's networks is meant.

    Attributes:
      stage: the stage that trained them; None for the last one that has begun.
      step: of its checkpoint; None for the newest.
      weights: the moving average of them, or the weights as they are ("raw"); None for those that
        the run itself uses.
    """

    stage: str | None = None
    step: int | None = None
    weights: Weights | None = None


NEWEST = State()


def part_of(config: Config, stage: str, weights: Weights | None) -> str:
    """Returns where a stage's state holds its networks' weights, as a path.

    Raises:
      UserError: it keeps no average of them.
    """
    raw, averaged = {
        "gan": ("generator", "average" if config.gan.ema_decay else None),
        "segmenter": ("segmenter", None),
        "self_training": ("student/segmenter", "teacher"),
        "autoencoder": ("autoencoder", None),
    }[stage]
    if weights == "averaged" and averaged is None:
        remedy = "; gan.ema_decay makes one" if stage == "gan" else ""
        raise UserError(f"{stage} keeps no averaged weights{remedy}: take the raw ones")
    if weights is None:
        return averaged or raw if stage == "gan" else raw
    return raw if weights == "raw" else averaged or raw
