"""The config file of a workdir: written, read, and compared with that of a run that resumes."""

import json
from collections.abc import Collection
from typing import Any

from etils import epath

from ganseg_jax import files
from ganseg_jax.config.convert import checked, from_mapping, nested
from ganseg_jax.config.schema import STAGES, Config
from ganseg_jax.config.setting import flat, leaves
from ganseg_jax.errors import UserError, command
from ganseg_jax.files import resolve

DERIVED = ("segmenter", "self_training")
"""Stages that are made from the GAN in minutes, and may be trained again in the same workdir."""


def save_config(config: Config, workdir: epath.PathLike) -> None:
    """Writes `W/config.json`, whole or not at all."""
    text = json.dumps(nested(flat(config)), indent=2) + "\n"
    files.write_whole(resolve(workdir) / "config.json", text)


def load_config(workdir: epath.PathLike) -> Config:
    """Returns the config of `W/config.json`, whichever version of the package wrote it.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = resolve(workdir) / "config.json"
    if not path.exists():
        raise UserError(
            f"{workdir} has no config.json, so nothing was trained there: give the workdir of a "
            f"run, or train one with `{command('pipeline')}`"
        )
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it, or use another --workdir") from (
            error
        )
    return from_mapping(Config, values, missing="before")


def deciding_fields(config: Config) -> dict[str, Any]:
    """Returns the fields that decide a run's figures by dotted name: no paths, no intervals."""
    values, known = flat(config), leaves(Config)
    deciding = ("segmenter.refine", "evaluation.")
    return {
        name: value
        for name, value in values.items()
        if known[name].setting.change != "anytime" or name.startswith(deciding)
    }


def stage_settings(config: Config, section: str) -> dict[str, Any]:
    """Returns the fields of one section that decide what its stage trains, by dotted name."""
    values, known = flat(config), leaves(Config)
    return {
        name: value
        for name, value in values.items()
        if name.startswith(f"{section}.") and known[name].setting.change == "never"
    }


def adopt_workdir(
    config: Config,
    workdir: epath.PathLike,
    given: Collection[str] | None = None,
    retrain: Collection[str] = (),
) -> None:
    """Writes a sound config into a new workdir, or checks that it is the one this began with.

    Settings of stages that have not begun, and those that change nothing in what was trained, may
    differ; the file is brought up to date then.

    Args:
      config: of this run.
      workdir: of this run.
      given: names of the fields that were given explicitly, which alone may change a stage's
        number of updates; None for all.
      retrain: stages that are about to be trained again, whose settings may change.

    Raises:
      UserError: naming the first field that makes no sense, or that differs, with both values.
    """
    checked(config)
    _check_files(config)
    if (resolve(workdir) / "config.json").exists():
        _check_same(config, load_config(workdir), resolve(workdir), given, retrain)
    save_config(config, workdir)


def _check_files(config: Config) -> None:
    values = flat(config)
    for name, leaf in leaves(Config).items():
        wanted, path = leaf.setting.file, values[name]
        if wanted and path and not resolve(path).exists():
            raise UserError(f"{name}={path!r}: there is no such file; give {wanted}")


def _check_same(
    config: Config,
    old: Config,
    workdir: epath.Path,
    given: Collection[str] | None,
    retrain: Collection[str],
) -> None:
    begun = {stage for stage in STAGES if (workdir / stage / "checkpoints").exists()}
    if not begun:
        return
    if "autoencoder" in begun:
        begun |= {"gan", "segmenter"}  # Whose settings it is trained with.
    begun -= set(retrain)
    known, now, before = leaves(Config), flat(config), flat(old)
    for name, leaf in known.items():
        section, change = name.split(".")[0], leaf.setting.change
        same = now[name] == before[name] or change == "anytime"
        if same or (section in STAGES and section not in begun):
            continue
        if name == "dataset.cache" and "device" not in (before[name], now[name]):
            continue  # The same photos in the same order.
        if change == "steps":
            if given is None or name in given:
                continue
            longer = f", or --config.{name}={now[name]} to train longer"
            raise UserError(
                f"{workdir} was begun with {name}={before[name]}, and this command does not set "
                f"it: give --config.{name}={before[name]} to keep it"
                + (longer if now[name] > before[name] else "")
            )
        again = f", --retrain={section}" if section in DERIVED else ""
        raise UserError(
            f"{workdir} was begun with {name}={before[name]!r}, not {now[name]!r}: "
            f"use that value{again}, or another --workdir"
        )
