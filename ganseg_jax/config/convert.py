"""Converts between ml_collections configs, for people, and `Config`, for code."""

from collections.abc import Mapping
from typing import Any, TypeVar, get_origin

import ml_collections

from ganseg_jax.config.schema import Config
from ganseg_jax.config.setting import check, flat, leaves, nearest, with_fields
from ganseg_jax.errors import UserError
from ganseg_jax.files import expand

Schema = TypeVar("Schema")


def base_config() -> ml_collections.ConfigDict:
    """Returns the published settings, for a file of `configs/` to change what differs."""
    return thaw(Config())


def thaw(config: Any) -> ml_collections.ConfigDict:
    """Returns an instance of a schema as an ml_collections config."""
    return ml_collections.ConfigDict(nested(flat(config)))


def freeze(config: ml_collections.ConfigDict) -> Config:
    """Returns an ml_collections config as a checked `Config`, its paths written out.

    Raises:
      UserError: naming the first field that is unknown or makes no sense.
    """
    frozen = from_mapping(Config, config.to_dict())
    written = {}
    for name, value in flat(frozen).items():
        if isinstance(value, str):
            try:
                written[name] = expand(value)
            except UserError as error:
                raise UserError(f"{name}={error}") from error
    return checked(with_fields(frozen, written))


def checked(config: Config) -> Config:
    """Returns the config if all of its values make sense, each alone and together.

    Raises:
      UserError: naming the first field that does not.
    """
    check(config)
    for name in ("gan", "segmenter", "self_training"):
        stage = getattr(config, name)
        if stage.keep_every % stage.checkpoint_every:
            raise UserError(
                f"{name}.keep_every={stage.keep_every} must be a multiple of "
                f"{name}.checkpoint_every={stage.checkpoint_every}, or 0"
            )
    for name in ("gan", "segmenter"):
        stage = getattr(config, name)
        if stage.init_from and config.model.kind != "gan":
            raise UserError(f"{name}.init_from={stage.init_from!r}: auto-encoders start afresh")
        if stage.dont_load and not stage.init_from:
            raise UserError(f"{name}.dont_load={stage.dont_load!r} needs {name}.init_from")
    decay = config.gan.concentration
    if (decay.decay_from or decay.decay_until) and decay.decay_from >= decay.decay_until:
        raise UserError(
            f"gan.concentration.decay_from={decay.decay_from} must be 0 or more and below "
            f"gan.concentration.decay_until={decay.decay_until}"
        )
    if config.dataset.cache == "device" and config.dataset.augment == "flip_crop":
        raise UserError(
            "dataset.cache='device' mirrors photos but does not crop them: set dataset.augment to "
            "'flip', or dataset.cache to 'host'"
        )
    if config.segmenter.stem_pool and config.segmenter.output_stride == 2:
        raise UserError("segmenter.output_stride=2 needs segmenter.stem_pool=False")
    return config


def from_mapping(schema: type[Schema], values: Mapping[str, Any], missing: str = "default") -> Any:
    """Returns an instance of a schema from nested values, unchecked.

    Lists become tuples and whole numbers become floats if the schema says so, as JSON loses both.

    Args:
      schema: `Config` or `FewShot`.
      values: nested by section.
      missing: "default", or "before" to give fields that are missing the value that workdirs
        without them were begun with.

    Raises:
      UserError: naming the first field that the schema does not have, and the nearest that it has.
    """
    given = _flat_mapping(values)
    known = leaves(schema)
    for name in given:
        if name not in known:
            raise UserError(f"config: there is no field {name}{nearest(name, known)}")
    chosen = {}
    for name, leaf in known.items():
        if name in given:
            chosen[name] = _as_declared(given[name], leaf.type)
        elif missing == "before":
            chosen[name] = leaf.setting.before
    return with_fields(schema(), chosen)


def nested(values: Mapping[str, Any], separator: str = ".") -> dict[str, Any]:
    """Returns values with names such as "gan.batch_size" as nested dicts."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *sections, last = name.split(separator)
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def _flat_mapping(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if hasattr(value, "items"):
            found |= _flat_mapping(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _as_declared(value: Any, kind: Any) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        return tuple(float(x) if float in kind.__args__ else x for x in value)
    return value
