"""Trains on a folder of photos: settings that fit, a look at the young GAN, then the whole job."""

import dataclasses
import json
import logging
import math
import os
import time
from collections.abc import Callable, Collection
from typing import Any

import jax
from etils import epath

from ganseg_jax import files
from ganseg_jax.config import Config, flat, with_fields
from ganseg_jax.config.convert import checked, from_mapping, nested
from ganseg_jax.errors import UserError
from ganseg_jax.files import resolve
from ganseg_jax.jobs import begin, budget, signs, starts, train
from ganseg_jax.jobs import check as photos_check

LOG = logging.getLogger(__name__)

PLAN = "plan.json"
"""What was asked for, the settings chosen by it, and what the look at the young GAN said."""

TENTH = 10
MINUTES = 30.0
"""The time that is taken if neither minutes nor a size are given."""

ENOUGH_TO_CHOOSE, CHOOSING = 15.0, 0.25
"""Minutes from which on short trainings choose how parts begin, and their share of the time."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """Holds what a user asks for; None leaves the choice.

    Attributes:
      photos: folder or archive.
      minutes: for everything.
      size: of the images.
      parts: number of parts.
      layout: "disc", "column" or "row"; None has short trainings choose it.
      fields: settings by dotted name.
    """

    photos: str
    minutes: float | None = None
    size: int | None = None
    parts: int | None = None
    layout: str | None = None
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)


def asked_before(workdir: epath.PathLike) -> Asked | None:
    """Returns what `train_on` was asked for in a workdir; None if another command began the run.

    Raises:
      UserError: the plan that it keeps is damaged.
    """
    plan = _read(resolve(workdir) / PLAN)
    return None if plan is None else Asked(**plan["asked"])


def train_on(
    asked: Asked,
    workdir: epath.PathLike,
    named: Callable[[str], Config],
    keep: Collection[str] = (),
    retrain: Collection[str] = (),
) -> dict[str, float]:
    """Chooses settings, trains, measures and reports; resumes what was begun.

    Args:
      asked: what the user asks for.
      workdir: of the run.
      named: argument of `configs/image_folder.py` -> its config.
      keep: see `jobs.train.run_all`.
      retrain: likewise.

    Returns:
      The figures of `W/evaluation/metrics.json`.

    Raises:
      UserError: something else was asked for when the workdir was begun, or as `run_all` does.
    """
    begun = time.monotonic()
    folder = resolve(workdir)
    plan = _read(folder / PLAN)
    speed = None
    if plan is None:
        if (folder / "config.json").exists():
            raise UserError(
                f"{folder} holds a run that another command began: use that command, or another "
                "--out"
            )
        config, speed = _choose(asked, folder, named)
        plan = {"asked": _plain(asked), "config": nested(flat(config)), "looked": False}
        files.write_json(folder / PLAN, plan)
    else:
        _check_same(asked, plan["asked"], folder)
        config = from_mapping(Config, plan["config"], missing="before")
        # What a remedy changed stays changed.
        config = checked(with_fields(config, asked.fields | plan.get("changed", {})))
    if not plan["looked"] and "gan" not in keep:
        config = _look(config, folder, plan)
    if speed is not None and not {"gan", "segmenter", "self_training"} & {*keep, *retrain}:
        minutes = MINUTES if asked.minutes is None else asked.minutes
        until = begun + 60 * minutes * (1 - budget.SPARE)
        config = _in_time(config, folder, plan, speed, until)
    return train.run_all(config, folder, None, keep, retrain)


def _choose(
    asked: Asked, folder: epath.Path, named: Callable[[str], Config]
) -> tuple[Config, budget.Speed | None]:
    """Returns the settings and, if they are to fit a time, the speed that was measured."""
    begun = time.monotonic()
    layout = asked.layout or "auto"
    if layout == "auto" and asked.minutes is not None and asked.minutes < ENOUGH_TO_CHOOSE:
        seen = photos_check.check(asked.photos)
        layout = seen.layout
        shape = "higher than wide" if seen.upright else "not upright"
        LOG.info("parts begin in a %s, since the photos are %s (--layout)", layout, shape)

    def build(size: int) -> Config:
        argument = f"parts={asked.parts or 6},size={size},layout={layout}"
        places = {
            "dataset.source": os.path.abspath(resolve(asked.photos)),
            "dataset.data_dir": str(folder / "data"),
        }
        config: Config = with_fields(named(argument), places | asked.fields | chosen)
        begin.check(config)
        return config

    # Photos first: most mistakes are made there.
    chosen: dict[str, Any] = {}
    smallest = build(asked.size or budget.sizes()[-1])
    begin.prepare_data(smallest)
    timed = asked.size is None or asked.minutes is not None
    minutes = MINUTES if asked.minutes is None else asked.minutes
    gan = starts.resolved(smallest, folder, 60 * CHOOSING * minutes if timed else math.inf).gan
    chosen = {"gan.point_layout": gan.point_layout, "gan.point_spread": gan.point_spread}
    if not timed:
        return build(asked.size or smallest.image_size), None
    sizes = (asked.size,) if asked.size else budget.sizes()
    minutes = max(minutes / 2, minutes - (time.monotonic() - begun) / 60)
    config, speed = budget.choose(build, sizes, minutes)
    # Said explicitly, a number of steps stays.
    config = checked(with_fields(config, asked.fields))
    total = budget.minutes_told(sum(speed.seconds(config).values()))
    steps = [f"{name} {getattr(config, name).num_steps}" for name in speed.updates]
    LOG.info("%d px, steps: %s: about %s", config.image_size, ", ".join(steps), total)
    return config, speed


def _look(config: Config, folder: epath.Path, plan: dict[str, Any]) -> Config:
    """Trains the first tenth of the GAN, says what it sees, and starts again once if it must."""
    steps = max(1, config.gan.num_steps // TENTH)
    young = with_fields(config, {"gan.num_steps": steps})
    train.train_stages(young, folder, ["gan"])
    if jax.process_index():
        return config
    figures = signs.look(config, folder)
    found = signs.signs_of(figures, config)
    shown = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
    plan |= {"looked": True, "figures": figures, "signs": [sign.what for sign in found]}
    if not found:
        LOG.info("after a tenth: nothing of the known failures shows (%s)", shown)
    for sign in found:
        LOG.warning("after a tenth: %s", sign.what)
    if found:
        first = found[0]
        config = checked(with_fields(config, first.fields))
        LOG.warning("so the GAN starts again: %s (%s)", first.remedy, _told(first.fields))
        plan |= {"config": nested(flat(config)), "changed": first.fields}
        # The settings change what was begun: that is set aside.
        (folder / "gan").rename(folder / "gan_first_try")
    files.write_json(folder / PLAN, plan)
    return config


def _in_time(
    config: Config, folder: epath.Path, plan: dict[str, Any], speed: budget.Speed, until: float
) -> Config:
    """Trains the GAN; if that took longer than was measured, the later stages get fewer updates.

    Other programs may have slowed it down, and will slow down what follows as much. What the user
    gave a number of updates keeps it, and what is left is kept in the plan for a run that resumes.

    Args:
      config: of the run.
      folder: of the run.
      plan: of the run; its changed settings grow.
      speed: measured before.
      until: when training should end, in the seconds of `time.monotonic`.
    """
    begun = time.monotonic()
    train.train_stages(config, folder, ["gan"])
    now = time.monotonic()
    made = config.gan.num_steps - max(1, config.gan.num_steps // TENTH)
    slower = max(1.0, (now - begun) / (speed.starts["gan"] + made * speed.updates["gan"]))
    fewer = budget.rest_within(config, speed, slower, until - now)
    fields = {name: value for name, value in fewer.items() if name not in plan["asked"]["fields"]}
    if not fields or jax.process_count() > 1:  # Processes would have to agree on the time.
        return config
    shown = ", ".join(
        f"{name} {fields[key]}" for name in speed.updates if (key := f"{name}.num_steps") in fields
    )
    LOG.info("the GAN took %.1f times as long as measured; fewer steps follow: %s", slower, shown)
    plan["changed"] = plan.get("changed", {}) | fields
    files.write_json(folder / PLAN, plan)
    return checked(with_fields(config, fields))


def _told(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value:g}" for name, value in fields.items())


def _plain(asked: Asked) -> dict[str, Any]:
    return dataclasses.asdict(asked) | {"photos": os.path.abspath(resolve(asked.photos))}


def _check_same(asked: Asked, before: dict[str, Any], folder: epath.Path) -> None:
    """Raises `UserError` if something is asked for that the run was not begun with."""
    for name, value in _plain(asked).items():
        if name != "fields" and value is not None and value != before[name]:
            raise UserError(
                f"{folder} was begun with {name}={before[name] or 'a choice of its own'}, not "
                f"{value}: leave that out to resume, or give another --out"
            )


def _read(path: epath.Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): use another --out") from error
