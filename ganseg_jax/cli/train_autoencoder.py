"""Trains an auto-encoder alone: a config with `model.kind` autoencoder_points or _masks.

python -m experiments.train_autoencoder --config=configs/X.py --workdir=W
    --config.model.kind=autoencoder_points
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.jobs.begin import begin
    from ganseg_jax.training import autoencoder_stage

    begin(CONFIG.value, WORKDIR.value, CONFIG.given)
    autoencoder_stage.train_autoencoder(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
