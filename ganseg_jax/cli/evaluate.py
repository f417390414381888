"""Measures a trained run and writes its report.

python -m experiments.evaluate --workdir=W [--config=configs/X.py]

Writes W/evaluation/metrics.json and W/report.html. Without --config the run's own is used.

--step=N, --steps=all and --follow measure single checkpoints instead: samples of the GAN, photos of
all other stages. They write W/evaluation/steps.json and steps.png, a curve of every measure over
training, and leave metrics.json alone.
"""

from typing import Any

from absl import flags

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
STEP = flags.DEFINE_integer("step", None, "Measure the checkpoint of this step.")
STEPS = flags.DEFINE_string(
    "steps", None, "Measure the checkpoints of these steps, with commas between; all; or newest."
)
STAGES = flags.DEFINE_list("stages", [], "Of these stages (gan, segmenter, ...) alone.")
WEIGHTS = flags.DEFINE_enum(
    "weights", None, ["averaged", "raw"], "Which weights; by default those that the run uses."
)
FOLLOW = flags.DEFINE_boolean(
    "follow", False, "Measure the checkpoints that a training adds, until it has ended."
)


def wanted_steps() -> "list[int] | str | None":
    """Returns the steps that the flags name; None if they name no checkpoints.

    Raises:
      UserError: they contradict each other, or are no numbers.
    """
    from ganseg_jax.errors import UserError

    given = [name for name in ("step", "steps") if flags.FLAGS[name].value is not None]
    given += ["follow"] if FOLLOW.value else []
    if len(given) > 1:
        raise UserError(f"--{given[0]} and --{given[1]} contradict each other: give one")
    if STEP.value is not None:
        return [STEP.value]
    if STEPS.value is None:
        return "newest" if STAGES.value or WEIGHTS.value else None
    if STEPS.value in ("all", "newest"):
        return str(STEPS.value)
    try:
        return [int(step) for step in STEPS.value.split(",")]
    except ValueError:
        raise UserError(
            f"--steps={STEPS.value} must be numbers with commas between, all, or newest"
        ) from None


def main() -> None:
    from ganseg_jax.config import file as config_file
    from ganseg_jax.jobs import evaluate as run
    from ganseg_jax.jobs import steps as job
    from ganseg_jax.jobs.begin import begin
    from ganseg_jax.report.tables import plain_table

    steps, config = wanted_steps(), CONFIG.optional
    weights: Any = WEIGHTS.value
    if config is not None:
        begin(config, WORKDIR.value, CONFIG.given)
    if FOLLOW.value:
        rows = job.follow(WORKDIR.value, STAGES.value, weights, config)
    else:
        config = config or config_file.load_config(WORKDIR.value)
        if steps is None:
            run.evaluate(config, WORKDIR.value)
            return
        rows = job.evaluate_steps(config, WORKDIR.value, steps, STAGES.value, weights)
    for table in job.tables_of(rows):
        print(plain_table(table), end="\n\n")


if __name__ == "__main__":
    app.run(main)
