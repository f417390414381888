"""Trains the segmenter alone, and if the config has it, on photos with labels of its own.

python -m experiments.train_segmenter --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()
STAGES = app.define_stage_choices()
WATCH = app.define_watch()


def main() -> None:
    from ganseg_jax.jobs.train import train_stages

    with WATCH.watching():
        train_stages(
            CONFIG.value, WORKDIR.value, ["segmenter", "self_training"], CONFIG.given, *STAGES.value
        )


if __name__ == "__main__":
    app.run(main)
