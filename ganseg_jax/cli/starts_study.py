"""Which figures tell a good training from a bad one without labels: a study on photos with masks.

python -m experiments.starts_study --config=configs/X.py --workdir=W --category=NAME
    [--starts=disc:0.25,column:0.75] [--seeds=0,1] [--steps=200,600]

Trains short GANs from each start with each seed, and a segmenter on each. Measures what needs no
labels, and overlap with the true masks. Several categories may share a workdir. Writes
W/rows.jsonl, which resumes what was cut off, W/table.md and W/scores.png.
"""

from absl import flags

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir()
CATEGORY = flags.DEFINE_string("category", None, "Name of the photos in the rows.", required=True)
STARTS = flags.DEFINE_list(
    "starts", ["disc:0.25", "column:0.75", "row:0.75", "disc:0.5"], "LAYOUT:SPREAD, ..."
)
SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds of the trainings.")
STEPS = flags.DEFINE_list("steps", ["200", "600"], "Updates of the GAN at which to measure.")


def main() -> None:
    from ganseg_jax import files
    from ganseg_jax.config import with_fields
    from ganseg_jax.config.convert import checked
    from ganseg_jax.errors import UserError
    from ganseg_jax.files import resolve
    from ganseg_jax.jobs.starts import Start
    from ganseg_jax.report.png import save_png
    from ganseg_jax.studies import starts

    try:
        begun = [Start(layout, float(spread)) for layout, spread in _pairs(STARTS.value)]
        seeds, steps = [int(seed) for seed in SEEDS.value], sorted({int(s) for s in STEPS.value})
    except ValueError as error:
        raise UserError(
            f"--starts, --seeds and --steps look like disc:0.25, 0,1 and 200,600: {error}"
        ) from error
    config = with_fields(CONFIG.value, {"starts.num_steps": steps[0]})
    for start in begun:
        checked(start.of(config))
    rows = starts.collect(config, WORKDIR.value, begun, seeds, steps, CATEGORY.value)
    table = "\n".join(f"## At {step} updates\n\n{starts.table_of(rows, step)}" for step in steps)
    files.write_whole(resolve(WORKDIR.value) / starts.TABLE, table)
    picture = starts.picture_of(rows, steps[-1])
    save_png(resolve(WORKDIR.value) / starts.PICTURE, picture)
    print(table)


def _pairs(entries: list[str]) -> list[tuple[str, str]]:
    pairs = []
    for entry in entries:
        layout, colon, spread = entry.partition(":")
        if not colon:
            raise ValueError(f"{entry!r} has no spread")
        pairs.append((layout, spread))
    return pairs


if __name__ == "__main__":
    app.run(main)
