"""Smaller still than `configs/tiny.py`: for tests that compile its training again and again."""

ONE_STAGE = {
    "model.stage_divisors": (1,),
    "model.stage_channels": (4,),
    "discriminator.channels": (4,),
}

WITH_ONE_STAGE = {name.replace(".", "__"): value for name, value in ONE_STAGE.items()}
"""For `tests.tiny_config.config_with`."""


def flags():
    """The same as overrides on the command line."""
    return [f"--config.{name}={value}" for name, value in ONE_STAGE.items()]
