"""Trains the segmenter alone, and where the config has it, on photos with labels of its own.

python -m experiments.train_segmenter --config=configs/X.py --workdir=W
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.jobs.begin import begin
    from ganseg_jax.training import self_training_stage, stages

    begin(CONFIG.value, WORKDIR.value, CONFIG.given)
    stages.train_segmenter(CONFIG.value, WORKDIR.value)
    if CONFIG.value.self_training.num_steps:
        self_training_stage.self_train(CONFIG.value, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
