"""Trains the gan alone.

python -m experiments.train_gan --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.jobs.begin import begin
    from ganseg_jax.training import stages

    begin(CONFIG.value, WORKDIR.value, CONFIG.given)
    stages.train_gan(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
