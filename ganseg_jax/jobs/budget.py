"""Measures how long a run takes on this device by a few steps of each stage; fits one to a time."""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ganseg_jax.config import Config, with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.training import batches, gan, harness, partition, segmenter, self_training
from ganseg_jax.training.stage import Stage

LOG = logging.getLogger(__name__)

STEPS, LIMIT = 5, 8.0
"""Updates of each stage that are measured, and the seconds after which no more are made."""

LEAST_SHARE, MOST_SHARE = 0.4, 1.5
"""Of a size's own number of updates: with fewer, a smaller size is taken; more are not made."""

LEAST_STEPS = 100
"""Updates of the GAN with which a run makes any sense."""

SPARE = 0.08
"""Share of the time that is kept for preparing, checkpoints, evaluation and the report."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """Holds what was measured.

    Attributes:
      updates: stage -> seconds of an update.
      starts: stage -> seconds before the first update, most of them compilation.
    """

    updates: dict[str, float]
    starts: dict[str, float]

    def seconds(self, config: Config) -> dict[str, float]:
        """Returns stage -> seconds that a run of these settings trains, its start included."""
        return {
            name: self.starts[name] + each * getattr(config, name).num_steps
            for name, each in self.updates.items()
            if getattr(config, name).num_steps
        }


def measure(config: Config) -> Speed:
    """Trains a few steps of each stage on noise in place of photos, and keeps nothing.

    Photos are read beside training; if the disk is slow, a run takes longer.
    """
    updates, starts = {}, {}
    for name, declare in _stages(config).items():
        LOG.info("measuring a step: %s at %d px", name, config.image_size)
        start = time.perf_counter()
        stage = declare()
        updates[name] = harness.seconds_per_update(stage, at_least=STEPS, limit=LIMIT)
        made = STEPS if STEPS * updates[name] >= LIMIT else LIMIT / updates[name]
        starts[name] = max(0.0, time.perf_counter() - start - min(made, 50) * updates[name])
    return Speed(updates, starts)


def _stages(config: Config) -> dict[str, Callable[[], Stage]]:
    generator = gan.init_state(gan.Gan.of(config), config.seed).generator
    stages: dict[str, Callable[[], Stage]] = {
        "gan": lambda: gan.outline(config),
        "segmenter": lambda: segmenter.outline(config, generator),
    }
    if config.self_training.num_steps:
        stages["self_training"] = lambda: self_training.outline(config, generator)
    return {name: _noisy(declare, config, name) for name, declare in stages.items()}


def _noisy(declare: Callable[[], Stage], config: Config, name: str) -> Callable[[], Stage]:
    return lambda: _on_noise(declare(), config, name)


def _on_noise(stage: Stage, config: Config, name: str) -> Stage:
    if name == "segmenter":  # It draws its own images.
        return stage
    count, size = getattr(config, name).batch_size, config.image_size
    noise = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

    def source(mesh: jax.sharding.Mesh) -> Any:
        shaped = batches.shapes_of_photos(size, count)(mesh)
        batch = partition.global_batch({"image": noise}, mesh)
        return dataclasses.replace(shaped, to_argument=lambda _: batch)

    return dataclasses.replace(stage, batches=source)


def fit(config: Config, speed: Speed, seconds: float) -> tuple[Config, float]:
    """Returns the config with as many updates as fit, and their share of its own number.

    Args:
      config: with its own number of updates.
      speed: measured with it.
      seconds: for everything.
    """
    starting = sum(speed.starts.values())
    stepping = sum(speed.seconds(config).values()) - starting
    share = max(0.0, seconds * (1 - SPARE) - starting) / stepping
    return scaled(config, min(share, MOST_SHARE)), share


def scaled(config: Config, share: float) -> Config:
    """Returns the config with that share of its updates; schedules shrink with them."""
    fields = _steps(config, share, ("gan", "segmenter", "self_training"))
    decay = config.gan.concentration
    for field in ("decay_from", "decay_until"):
        fields[f"gan.concentration.{field}"] = round(getattr(decay, field) * share)
    changed: Config = with_fields(config, fields)
    return changed


def rest_within(config: Config, speed: Speed, slower: float, seconds: float) -> dict[str, int]:
    """Returns the settings with which the stages after the GAN fit into what time is left.

    Never more updates, and no fewer than `LEAST_SHARE` of them; nothing if all fit.

    Args:
      config: of the run.
      speed: measured before it.
      slower: how many times as long updates take by now.
      seconds: left for these stages.
    """
    rest = tuple(name for name in speed.seconds(config) if name != "gan")
    starting = sum(speed.starts[name] for name in rest)
    stepping = sum(speed.seconds(config)[name] for name in rest) - starting
    share = (seconds / slower - starting) / stepping if stepping else 1.0
    return {} if share >= 1 else _steps(config, max(share, LEAST_SHARE), rest)


def _steps(config: Config, share: float, names: Sequence[str]) -> dict[str, int]:
    """Returns the fields that give stages a share of their updates, and what goes with these."""
    fields: dict[str, int] = {}
    for name in names:
        steps = getattr(config, name).num_steps
        if not steps:
            continue
        wanted = max(10, 10 * round(steps * share / 10))
        every = max(10, 10 * round(wanted / 60))
        fields[f"{name}.num_steps"] = wanted
        fields[f"{name}.checkpoint_every"] = fields[f"{name}.sample_every"] = every
        fields[f"{name}.log_every"] = max(1, min(getattr(config, name).log_every, every))
    return fields


def choose(
    build: Callable[[int], Config], sizes: tuple[int, ...], minutes: float
) -> tuple[Config, Speed]:
    """Returns the settings of the largest size that can be trained in a time, and the speed.

    Args:
      build: image size -> the config with its own number of updates.
      sizes: to choose from, the largest first.
      minutes: for everything, measuring included.

    Raises:
      UserError: the time is too short for the smallest size.
    """
    start = time.monotonic()
    for size in sizes:
        base = build(size)
        speed = measure(base)
        left = minutes * 60 - (time.monotonic() - start)
        config, share = fit(base, speed, left)
        LOG.info(
            "%d px: %s here; %d minutes allow %.0f %% of the usual number of steps",
            *(size, told(speed), round(minutes), 100 * share),
        )
        if share >= LEAST_SHARE:
            return config, speed
    if config.gan.num_steps < LEAST_STEPS:
        usual = sum(speed.seconds(base).values()) / 60 * LEAST_SHARE
        raise UserError(
            f"--minutes={minutes:g} is too short here: at {size} px give at least "
            f"{max(1, round(usual))}"
        )
    LOG.warning("fewer steps than are known to work: more --minutes give better parts")
    return config, speed


def sizes() -> tuple[int, ...]:
    """Returns the image sizes to choose from on this device, the largest first."""
    return (64, 32) if jax.default_backend() == "cpu" else (128, 64, 32)


def told(speed: Speed) -> str:
    """Returns what was measured, in words."""
    return ", ".join(f"{1e3 * each:.0f} ms a {name} step" for name, each in speed.updates.items())


def minutes_told(seconds: float) -> str:
    """Returns a time in words."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
