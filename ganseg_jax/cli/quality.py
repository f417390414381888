"""Quality against training time: one GAN, measured at several of its steps.

python -m experiments.quality --config=configs/X.py --workdir=W --steps=250,500,1000
    [--beside=W2,W3]

Each step has an ordinary run in W/at_<step>/, whose GAN resumes the one before; finished ones
are skipped. Writes W/quality.json, W/quality.md and W/quality.png (--beside: with the curves of
other workdirs, such as runs with another setting). The seconds are those of the updates of GAN and
segmenter; compilation and evaluation are not counted.
"""

from absl import flags

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STEPS = flags.DEFINE_list("steps", None, "Updates of the GAN at which to measure.", required=True)
BESIDE = flags.DEFINE_list("beside", [], "Workdirs of other such runs, to draw beside.")


def main() -> None:
    from ganseg_jax.errors import UserError
    from ganseg_jax.studies import quality

    if not all(step.isdecimal() for step in STEPS.value):
        raise UserError(f"--steps={','.join(STEPS.value)} must be whole numbers, such as 250,500")
    steps = [int(step) for step in STEPS.value]
    points = quality.run_quality(CONFIG.value, WORKDIR.value, steps, BESIDE.value)
    print(quality.table_of(points))


if __name__ == "__main__":
    app.run(main)
