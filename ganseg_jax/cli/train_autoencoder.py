"""Trains an auto-encoder alone: a config with `model.kind` autoencoder_points or _masks.

python -m experiments.train_autoencoder --config=configs/X.py --workdir=W
    --config.model.kind=autoencoder_points
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.config import file as config_file
    from ganseg_jax.training import autoencoder_stage

    config_file.adopt_workdir(CONFIG.value, WORKDIR.value)
    autoencoder_stage.train_autoencoder(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
