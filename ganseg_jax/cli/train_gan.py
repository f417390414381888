"""Trains the gan alone.

python -m experiments.train_gan --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.config import file as config_file
    from ganseg_jax.training import stages

    config_file.adopt_workdir(CONFIG.value, WORKDIR.value)
    stages.train_gan(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
