"""Continues a run with the settings that its workdir has, to its report.

python -m experiments.resume --workdir=W
"""

from ganseg_jax.cli import app

WORKDIR = app.define_workdir()


def main() -> None:
    from ganseg_jax.config.file import load_config
    from ganseg_jax.jobs.train import run_all

    run_all(load_config(WORKDIR.value), WORKDIR.value)


if __name__ == "__main__":
    app.run(main)
