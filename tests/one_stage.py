"""Smaller still than `configs/tiny.py`: for tests that compile its training again and again."""

ONE_STAGE = {
    "model.stage_divisors": (1,),
    "model.stage_channels": (4,),
    "discriminator.channels": (4,),
}


def with_one_stage(config):
    """The config with networks of one stage, which compile twice as fast."""
    config.update_from_flattened_dict(ONE_STAGE)
    return config


def flags():
    """The same as overrides on the command line."""
    return [f"--config.{name}={value}" for name, value in ONE_STAGE.items()]
