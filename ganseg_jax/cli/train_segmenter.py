"""Trains the segmenter alone, and if the config has it, on photos with labels of its own.

python -m experiments.train_segmenter --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app, config_flag, places, setting_flags

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STAGES = setting_flags.define_stage_choices()
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.jobs.train import train_stages

    with WATCH.watching():
        train_stages(
            CONFIG.value, WORKDIR.value, ["segmenter", "self_training"], CONFIG.given, *STAGES.value
        )


if __name__ == "__main__":
    app.run(main)
