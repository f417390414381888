"""Flags of trainings: settings of a schema, stages to keep or train again, what to watch."""

import contextlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from ganseg_jax.config.schema import STAGES
from ganseg_jax.config.setting import Leaf, check, leaves, nearest, with_fields
from ganseg_jax.errors import UserError


class StageChoices:
    """Gives the stages of --keep and --retrain."""

    def __init__(self, names: tuple[str, ...]):
        self._names = names
        self._flags = [
            flags.DEFINE_list("keep", [], f"Of {', '.join(names)}: keep even if inputs changed."),
            flags.DEFINE_list("retrain", [], "Of these: train again from the start."),
        ]

    @property
    def value(self) -> tuple[list[str], list[str]]:
        """Returns the names of the stages to keep and to train again.

        Raises:
          UserError: a name is no stage's.
        """
        for flag in self._flags:
            for name in flag.value:
                if name not in self._names:
                    known = ", ".join(self._names)
                    hint = nearest(name, self._names)
                    raise UserError(f"--{flag.name}: {name!r} is none of {known}{hint}")
        return self._flags[0].value, self._flags[1].value


def define_stage_choices(*names: str) -> StageChoices:
    """Defines --keep and --retrain; the stages are those of a run by default."""
    return StageChoices(names or STAGES)


class WatchFlags:
    """Gives what --profile_steps and --wandb ask to see of trainings."""

    def __init__(self) -> None:
        self._profile = flags.DEFINE_string(
            "profile_steps", None, "FIRST:LAST, steps of each stage to trace with JAX's profiler."
        )
        self._wandb = flags.DEFINE_string(
            "wandb", "", "Project of Weights & Biases to write metrics and pictures to as well."
        )

    def watching(self) -> "contextlib.AbstractContextManager[None]":
        """Returns a block whose trainings are watched so.

        Raises:
          UserError: the range of steps makes no sense, or, at its start, wandb is not installed.
        """
        from ganseg_jax.training import watch

        text = self._profile.value
        steps = None if text is None else watch.steps_of(text)
        return watch.watching(watch.Watch(steps, self._wandb.value))


def define_watch() -> WatchFlags:
    """Defines --profile_steps and --wandb."""
    return WatchFlags()


class SettingFlags:
    """Gives the settings of a schema that have flags."""

    def __init__(
        self, schema: type, names: Mapping[str, str | tuple[str, ...]], defaults: bool = True
    ):
        self._schema, self._names, self._defaults = schema, names, defaults
        known = leaves(schema)
        self._flags = {
            flag: self._define(flag, known[fields if isinstance(fields, str) else fields[0]])
            for flag, fields in names.items()
        }

    def _define(self, flag: str, leaf: Leaf) -> flags.FlagHolder:
        doc, default = leaf.setting.doc, leaf.default if self._defaults else None
        if leaf.choices:
            return flags.DEFINE_enum(flag, default, list(leaf.choices), doc)
        if leaf.type is bool:
            return flags.DEFINE_boolean(flag, default, doc)
        define = flags.DEFINE_integer if leaf.type is int else flags.DEFINE_float
        return define(flag, default, doc)

    @property
    def given(self) -> dict[str, Any]:
        """Returns the settings whose flags have a value, by dotted name.

        Raises:
          UserError: naming a flag whose value breaks a limit.
        """
        chosen: dict[str, Any] = {}
        for flag, fields in self._names.items():
            value = self._flags[flag].value
            if value is not None:
                names = (fields,) if isinstance(fields, str) else fields
                chosen |= dict.fromkeys(names, value)
        try:
            check(with_fields(self._schema(), chosen))
        except UserError as error:
            name = str(error).partition("=")[0]
            flag = next(f for f, fields in self._names.items() if name in fields)
            raise UserError(f"--{flag}{str(error).removeprefix(name)}") from error
        return chosen

    @property
    def value(self) -> Any:
        """Returns an instance of the schema; settings without a flag have their defaults.

        Raises:
          UserError: naming a flag whose value breaks a limit.
        """
        return with_fields(self._schema(), self.given)


def define_settings(
    schema: type, names: Mapping[str, str | tuple[str, ...]], defaults: bool = True
) -> SettingFlags:
    """Defines flags with type, meaning and choices of a schema's settings.

    Args:
      schema: a class of settings.
      names: flag -> the setting that it sets, or several.
      defaults: flags that are not given have the schema's defaults, else no value.
    """
    return SettingFlags(schema, names, defaults)
