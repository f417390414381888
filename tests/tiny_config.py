"""The smallest config, with changes."""

from configs import tiny


def config_with(**fields):
    """The tiny config with fields changed; `__` stands for the dot."""
    config = tiny.get_config()
    for name, value in fields.items():
        with config.ignore_type():
            config.update_from_flattened_dict({name.replace("__", "."): value})
    return config
