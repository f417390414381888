"""Settings: declared in `schema`, started from in `configs/`, kept in a workdir's `config.json`."""

from ganseg_jax.config import presets
from ganseg_jax.config.arguments import parse_arg
from ganseg_jax.config.convert import base_config, freeze, thaw
from ganseg_jax.config.schema import Config
from ganseg_jax.config.setting import flat, with_fields

__all__ = [
    "Config",
    "base_config",
    "flat",
    "freeze",
    "parse_arg",
    "presets",
    "thaw",
    "with_fields",
]
