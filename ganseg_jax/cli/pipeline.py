"""The whole job: data, GAN, segmenter, evaluation, report.

python -m experiments.pipeline --config=configs/X.py --workdir=W

Stages that have finished are skipped; one that was cut off resumes from its last checkpoint. If
what a stage was made from has changed, it is trained again: --keep=STAGE keeps it, --retrain=STAGE
trains it again in any case.
"""

from ganseg_jax.cli import app, config_flag, places, setting_flags

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STAGES = setting_flags.define_stage_choices()
WATCH = setting_flags.define_watch()


def main() -> None:
    from ganseg_jax.jobs.train import run_all

    with WATCH.watching():
        run_all(CONFIG.value, WORKDIR.value, CONFIG.given, *STAGES.value)


if __name__ == "__main__":
    app.run(main)
