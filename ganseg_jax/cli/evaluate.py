"""Measures a trained run and writes its report.

python -m experiments.evaluate --workdir=W [--config=configs/X.py]

Writes W/evaluation/metrics.json and W/report.html. Without --config the run's own is used.
"""

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()


def main() -> None:
    from ganseg_jax.config import file as config_file
    from ganseg_jax.jobs import evaluate as run
    from ganseg_jax.jobs.begin import begin

    config = CONFIG.optional
    if config is None:
        config = config_file.load_config(WORKDIR.value)
    else:
        begin(config, WORKDIR.value, CONFIG.given)
    run.evaluate(config, WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
