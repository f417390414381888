"""Chooses how the parts begin: short trainings from several layouts, compared without labels."""

import dataclasses
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8

from ganseg_jax import files, pixels, refinement
from ganseg_jax.config import Config, flat, with_fields
from ganseg_jax.config.convert import checked
from ganseg_jax.data import pipeline
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import evidence
from ganseg_jax.evaluation.evidence import Images, Probabilities
from ganseg_jax.files import resolve
from ganseg_jax.report.png import save_png
from ganseg_jax.report.sheets import segmentation_sheet
from ganseg_jax.training import gan, inputs, partition, segmenter
from ganseg_jax.training.brief import Brief

LOG = logging.getLogger(__name__)

Predict = Callable[[Images], Probabilities]

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
      steps: updates of the GAN until then.
      terms: see `evidence.terms`.
      score: see `evidence.score`.
    """

    start: Start
    steps: int
    terms: dict[str, float]
    score: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Tried":
        """Returns what was read from a file."""
        return cls(Start(**row["start"]), row["steps"], row["terms"], row["score"])


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
    partition.wait_for_all("starts are read")  # Before one process writes.
    if inputs.has_begun(resolve(workdir) / "gan"):
        # Too late to choose; without a choice the GAN began as an older version has it.
        return checked(Start(**content["chosen"]).of(config)) if "chosen" in content else config
    decided_by = _deciding(config)
    if content and content.get("decided_by") != decided_by:
        LOG.info("how parts begin was chosen for other settings or photos: it is chosen again")
        forget(workdir)
        content = {}
    if "chosen" in content:
        return checked(Start(**content["chosen"]).of(config))
    if jax.process_count() > 1:
        seconds = math.inf  # Clocks differ, and all processes must train the same.
    content = {"decided_by": decided_by, "tried": content.get("tried", [])}
    chosen = _choose(config, folder, content, seconds)
    LOG.info("chosen: a %s", chosen.name)
    if jax.process_index() == 0:
        files.write_json(folder / FILE, content | {"chosen": dataclasses.asdict(chosen)})
    return checked(chosen.of(config))


def _deciding(config: Config) -> dict[str, Any]:
    """Returns what the short trainings depend on, as JSON gives it back."""
    dataset = config.dataset
    kept = ("seed", "image_size", "dtype", "model", "discriminator", "starts", "gan", "segmenter")
    values = {k: v for k, v in flat(small(config)).items() if k.partition(".")[0] in kept}
    values |= {"dataset.name": dataset.name, "dataset.augment": dataset.augment}
    values["photos"] = pipeline.fingerprint(dataset.name, dataset.data_dir)
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def forget(workdir: epath.PathLike) -> None:
    """Removes what was chosen, so that it is chosen again."""
    folder = resolve(workdir) / FOLDER
    if jax.process_index() == 0 and folder.exists():
        folder.rmtree()


def pictures(workdir: epath.PathLike) -> list[tuple[str, bytes]]:
    """Returns a caption and a PNG of each start that was tried, the best first."""
    folder = resolve(workdir) / FOLDER
    content = _read(folder / FILE)
    last = {found.start: found for found in map(Tried.of, content.get("tried", []))}
    shown = []
    for start, found in sorted(last.items(), key=lambda item: (-item[1].steps, -item[1].score)):
        if (folder / _picture(start)).exists():
            kept = ", chosen" if dataclasses.asdict(start) == content.get("chosen") else ""
            caption = (
                f"A {start.name}{kept}: score {found.score:.3f} after {found.steps} updates. "
                "Photos and their parts."
            )
            shown.append((caption, (folder / _picture(start)).read_bytes()))
    return shown


def _picture(start: Start) -> str:
    return f"{start.name.replace(' ', '_')}.png"


def _choose(config: Config, folder: epath.Path, content: dict[str, Any], seconds: float) -> Start:
    """Tries the candidates, then the better half of them for longer (successive halving).

    What was tried before, with as many updates, is not tried again. Keeps what each came to in
    `content["tried"]` and in the file.
    """
    begun, trial = time.monotonic(), Trial(small(config))
    tried = {(found.start, found.steps): found for found in map(Tried.of, content["tried"])}
    LOG.info(
        "how parts begin: short trainings from %d starts at %d px, compared without labels",
        *(len(CANDIDATES), trial.config.image_size),
    )
    short = trial.config.gan.num_steps
    rounds: list[tuple[int, Sequence[Start]]] = [(short, CANDIDATES)]
    going: dict[Start, Iterator[Predict]] = {}
    paces: list[float] = []
    for steps, starts in rounds:
        compared = []
        for start in starts:
            found = tried.get((start, steps))
            # The first training compiles; what others take is the shortest time until now.
            to_do = (steps - short if start in going else steps) / short
            expected = min(paces, default=0.0) * to_do
            start_time = time.monotonic()
            if found is None and paces and start_time - begun + expected > seconds:
                LOG.info("the time allows no further trainings: %s left out", start.name)
                continue
            if found is None:
                if start not in going:
                    to_come = [n for n in (short, LENGTH * short) if n >= steps]
                    going[start] = trial.train(start, config.seed, to_come)
                found, picture = trial.measure(start, steps, next(going[start]))
                paces.append((time.monotonic() - start_time) / to_do)
                tried[start, steps] = found
                content["tried"] = [dataclasses.asdict(each) for each in tried.values()]
                if jax.process_index() == 0:
                    save_png(folder / _picture(start), picture)
                    files.write_json(folder / FILE, content)
            LOG.info("%s after %d updates: score %.3f", start.name, steps, found.score)
            compared.append(found)
        if compared:
            compared.sort(key=lambda found: -found.score)
            best = compared[0].start
        if steps == short and len(compared) > 1:
            half = [found.start for found in compared[: (len(compared) + 1) // 2]]
            rounds.append((LENGTH * short, half))
    return best


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

    def train(self, start: Start, seed: int, steps: Sequence[int]) -> Iterator[Predict]:
        """Yields a segmenter of the GAN after each number of updates.

        Args:
          start: how the parts begin.
          seed: of everything.
          steps: updates of the GAN, rising.
        """
        networks = gan.Gan.of(start.of(self.config))
        state, done, position = self._gan.place(gan.init_state(networks, seed)), 0, None
        for step in steps:
            state, position = self._gan.train(
                state, step - done, seed, position=position, name=f"{start.name}, GAN"
            )
            done = step
            # On the host: the next updates reuse the memory of the state.
            teacher = jax.device_get(state.sampling_variables)
            taught = self._segmenter.place(segmenter.init_state(self._networks, seed))
            taught, _ = self._segmenter.train(
                taught,
                self.config.segmenter.num_steps,
                seed,
                teacher,
                name=f"{start.name}, segmenter",
            )
            yield functools.partial(self.predict, taught.segmenter)

    def predict(self, variables: Any, images: Images) -> Probabilities:
        """Returns what a segmenter says about photos."""
        return _in_batches(lambda batch: self._predict(variables, batch), images)

    def refine(self, images: Images, probabilities: Probabilities) -> Probabilities:
        """Brings probabilities to the edges of photos."""
        return _in_batches(self._refine, images, probabilities)

    def measure(
        self, start: Start, steps: int, predict: Predict
    ) -> tuple[Tried, UInt8[np.ndarray, "y x 3"]]:
        """Returns what a start came to, and a picture of it."""
        found = evidence.terms(predict, self.refine, self.photos)
        shown = self.photos[:SHOWN]
        labels = self.refine(shown, predict(shown)).argmax(-1)
        tried = Tried(start, steps, found, evidence.score(found))
        return tried, segmentation_sheet(shown, labels)


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
