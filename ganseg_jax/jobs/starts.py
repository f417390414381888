"""Chooses how the parts begin: short trainings from several layouts, compared without labels."""

import dataclasses
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import files, pixels, refinement
from ganseg_jax.config import Config, with_fields
from ganseg_jax.config.convert import checked
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import evidence
from ganseg_jax.evaluation.evidence import Images, Probabilities
from ganseg_jax.files import resolve
from ganseg_jax.report.png import save_png
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.training import gan, inputs, segmenter
from ganseg_jax.training.brief import Brief

LOG = logging.getLogger(__name__)

FOLDER, FILE = "starts", "starts.json"
"""In the workdir: what was tried, with its figures; beside it a picture of each start."""

LENGTH = 3
"""How many times the updates of a short training its schedule is made for."""

SHOWN = 8
"""Photos in a row of the picture."""


@dataclasses.dataclass(frozen=True)
class Start:
    """Describes how parts begin.

    Attributes:
      layout: value of `gan.point_layout`.
      spread: value of `gan.point_spread`.
    """

    layout: str
    spread: float

    @property
    def name(self) -> str:
        """Returns what it is called in files and messages."""
        return f"{self.layout} {self.spread:g}"

    def of(self, config: Config) -> Config:
        """Returns the config that begins so."""
        fields = {"gan.point_layout": self.layout, "gan.point_spread": self.spread}
        begun: Config = with_fields(config, fields)
        return begun


CANDIDATES = (Start("disc", 0.25), Start("column", 0.75), Start("row", 0.75), Start("disc", 0.5))


@dataclasses.dataclass(frozen=True)
class Tried:
    """Holds what a short training came to.

    Attributes:
      start: how its parts began.
      terms: see `evidence.terms`.
      score: see `evidence.score`.
    """

    start: Start
    terms: dict[str, float]
    score: float


def resolved(config: Config, workdir: epath.PathLike, seconds: float = math.inf) -> Config:
    """Returns the config with the layout that was chosen, and chooses it first if need be.

    A config whose `gan.point_layout` is not "auto" is returned as it is.

    Args:
      config: of the run; its photos are prepared.
      workdir: of the run.
      seconds: for choosing; candidates for which there is no time are left out, and that is said.

    Raises:
      UserError: what the workdir holds of an earlier choice is damaged.
    """
    if config.gan.point_layout != "auto":
        return config
    folder = resolve(workdir) / FOLDER
    content = _read(folder / FILE)
    if "chosen" not in content:
        if inputs.has_begun(resolve(workdir) / "gan"):
            return config  # Too late to choose.
        content = _choose(config, folder, content.get("tried", []), seconds)
    chosen = content["chosen"]
    return checked(Start(chosen["layout"], chosen["spread"]).of(config))


def forget(workdir: epath.PathLike) -> None:
    """Removes what was chosen, so that it is chosen again."""
    folder = resolve(workdir) / FOLDER
    if jax.process_index() == 0 and folder.exists():
        folder.rmtree()


def _choose(
    config: Config, folder: epath.Path, before: list[dict[str, Any]], seconds: float
) -> dict[str, Any]:
    """Tries the candidates that were not tried before; keeps what each came to as it ends."""
    begun = time.monotonic()
    tried, trial = list(before), Trial(small(config))
    LOG.info(
        "how parts begin: %d short trainings at %d px, compared without labels",
        *(len(CANDIDATES), trial.config.image_size),
    )
    for start in CANDIDATES[len(tried) :]:
        made, taken = len(tried) - len(before), time.monotonic() - begun
        if made and taken * (made + 1) / made > seconds:
            left_out = ", ".join(start.name for start in CANDIDATES[len(tried) :])
            LOG.info("the time allows no further starts: %s left out", left_out)
            break
        found, picture = trial.run(start)
        LOG.info("parts begin in a %s: score %.3f", start.name, found.score)
        tried.append(dataclasses.asdict(found))
        if jax.process_index() == 0:
            save_png(folder / f"{start.name.replace(' ', '_')}.png", picture)
            files.write_json(folder / FILE, {"tried": tried})
    best = max(tried, key=lambda row: row["score"])
    content = {"tried": tried, "chosen": best["start"]}
    LOG.info("chosen: a %s", Start(**best["start"]).name)
    if jax.process_index() == 0:
        files.write_json(folder / FILE, content)
    return content


def small(config: Config) -> Config:
    """Returns the config of the short trainings, the beginnings of runs `LENGTH` times as long."""
    s, decay = config.starts, config.gan.concentration
    share = LENGTH * s.num_steps / config.gan.num_steps
    begins, ends = round(share * decay.decay_from), round(share * decay.decay_until)
    fields = {
        "image_size": min(s.image_size, config.image_size),
        "gan.num_steps": s.num_steps,
        "gan.concentration.decay_from": begins,
        "gan.concentration.decay_until": max(begins + 1, ends) if decay.decay_until else 0,
        "segmenter.num_steps": s.segmenter_steps,
    }
    shrunk: Config = with_fields(config, fields)
    return checked(shrunk)


class Trial:
    """Trains a GAN and its segmenter from one start after the other, with the same programs.

    Attributes:
      config: of the trainings; see `small`.
      photos: training photos to try segmenters on.
    """

    def __init__(self, config: Config):
        dataset = config.dataset
        self.config = config
        self.photos: Images = pipeline.load_split(
            dataset.name, dataset.data_dir, "train", config.image_size, config.starts.photos
        ).images
        self._gan = Brief.of(gan.declare(config))
        teacher = gan.generator_shapes(config)
        self._segmenter = Brief.of(segmenter.outline(config, teacher))
        self._networks = networks = segmenter.Segmentation.of(config)

        @jax.jit
        def predict(variables: Any, images: Any) -> Any:
            logits: Any = networks.segmenter.apply(
                variables, pixels.to_unit_range(images), train=False
            )
            return jax.nn.softmax(logits, -1)

        @jax.jit
        def refine(images: Any, probabilities: Any) -> Any:
            return refinement.refine(pixels.to_unit_range(images), probabilities)

        self._predict, self._refine = predict, refine

    def train(
        self, start: Start, seed: int, steps: Sequence[int]
    ) -> Iterator[Callable[[Images], Probabilities]]:
        """Yields a segmenter of the GAN after each number of updates.

        Args:
          start: how the parts begin.
          seed: of everything.
          steps: updates of the GAN, rising.
        """
        networks = gan.Gan.of(start.of(self.config))
        state, done = self._gan.place(gan.init_state(networks, seed)), 0
        for step in steps:
            state, done = self._gan.train(state, step - done, seed), step
            # On the host: the next updates reuse the memory of the state.
            teacher = jax.device_get(state.sampling_variables)
            taught = self._segmenter.place(segmenter.init_state(self._networks, seed))
            taught = self._segmenter.train(taught, self.config.segmenter.num_steps, seed, teacher)
            yield functools.partial(self.predict, taught.segmenter)

    def predict(self, variables: Any, images: Images) -> Probabilities:
        """Returns what a segmenter says about photos."""
        return _in_batches(lambda batch: self._predict(variables, batch), images)

    def refine(self, images: Images, probabilities: Probabilities) -> Probabilities:
        """Brings probabilities to the edges of photos."""
        return _in_batches(self._refine, images, probabilities)

    def run(self, start: Start) -> tuple[Tried, UInt8[np.ndarray, "y x 3"]]:
        """Returns what a start came to, and a picture of it."""
        config = self.config
        (predict,) = self.train(start, config.seed, [config.gan.num_steps])
        found = evidence.terms(predict, self.refine, self.photos)
        shown = self.photos[:SHOWN]
        labels = self.refine(shown, predict(shown)).argmax(-1)
        return Tried(start, found, evidence.score(found)), segmentation_sheet(shown, labels)


def _in_batches(function: Any, *arrays: np.ndarray, size: int = 50) -> np.ndarray:
    """Returns a function's values for arrays that are given to it in batches of one size."""
    count, values = len(arrays[0]), []
    for first in range(0, count, size):
        batch = [x[first : first + size] for x in arrays]
        filled = [np.concatenate([x, np.repeat(x[-1:], size - len(x), 0)]) for x in batch]
        values.append(np.asarray(function(*filled))[: len(batch[0])])
    return np.concatenate(values)


def _read(path: epath.Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it to choose again") from error
