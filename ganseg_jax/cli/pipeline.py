"""The whole job: data, GAN, segmenter, evaluation, report.

python -m experiments.pipeline --config=configs/X.py --workdir=W

Finished stages are skipped; one that was cut off goes on from its last checkpoint.
"""

from ganseg_jax.cli import app

CONFIG = app.define_config()
WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.jobs import train as pipeline

    pipeline.run_all(CONFIG.value, WORKDIR.value, CONFIG.given)


if __name__ == "__main__":
    app.run(main)
