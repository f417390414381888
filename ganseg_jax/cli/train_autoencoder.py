"""Trains an auto-encoder alone: a config with `model.kind` autoencoder_points or _masks.

python -m experiments.train_autoencoder --config=configs/X.py --workdir=W
    --config.model.kind=autoencoder_points
"""

from ganseg_jax.cli import app, config_flag, places, setting_flags

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STAGES = setting_flags.define_stage_choices()
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.jobs.train import train_stages

    with WATCH.watching():
        train_stages(CONFIG.value, WORKDIR.value, ["autoencoder"], CONFIG.given, *STAGES.value)


if __name__ == "__main__":
    app.run(main)
