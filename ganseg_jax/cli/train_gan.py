"""Trains the gan alone.

python -m experiments.train_gan --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app, config_flag, places, setting_flags

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STAGES = setting_flags.define_stage_choices()
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.jobs.train import train_stages

    with WATCH.watching():
        train_stages(CONFIG.value, WORKDIR.value, ["gan"], CONFIG.given, *STAGES.value)


if __name__ == "__main__":
    app.run(main)
