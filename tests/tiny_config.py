"""The smallest config, with changes."""

from configs import tiny
from ganseg_jax.config import Config, freeze, with_fields


def config_with(**fields) -> Config:
    """Returns the tiny config with fields changed, unchecked; `__` stands for the dot."""
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    return with_fields(freeze(tiny.get_config()), changed)
