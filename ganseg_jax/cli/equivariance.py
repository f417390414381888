"""How exactly masks and image follow when all points move (GANSeg, appendix E).

python -m experiments.equivariance --workdir=W --output=DIR [--shifts=1,2,4,8,16]
python -m experiments.equivariance --config=configs/X.py --output=DIR

The first measures a trained generator, the second one of random weights, whose background is taken
away. Both grids are measured with the same weights. Writes DIR/equivariance.png and
DIR/equivariance.json: errors by shift and by distance from the border, in pixels.
"""

import json
from typing import Any

from absl import flags

from ganseg_jax.cli import app, config_flag, places

CONFIG = config_flag.define()
WORKDIR = places.define_workdir(required=False)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
SHIFTS = flags.DEFINE_list("shifts", ["1", "2", "4", "8", "16"], "Pixels to move the points by.")
NUM = flags.DEFINE_integer("num", 4, "Number of samples.")


def main() -> None:
    import jax

    from ganseg_jax import loading
    from ganseg_jax.errors import UserError
    from ganseg_jax.evaluation import equivariance
    from ganseg_jax.files import write_whole
    from ganseg_jax.latents import sample_latents
    from ganseg_jax.models.build import build_generator
    from ganseg_jax.models.initialise import init_variables
    from ganseg_jax.report.plots import plot_equivariance
    from ganseg_jax.report.png import save_png

    if (CONFIG.optional is None) == (WORKDIR.value is None):
        raise UserError("give either --workdir, of a trained generator, or --config")
    if WORKDIR.value is not None:
        generator, variables = loading.load_generator(WORKDIR.value)
    else:
        generator = build_generator(CONFIG.value)
    if not generator.use_points:
        raise UserError("model.use_points=False: a generator without points cannot be moved")
    largest = generator.image_size - 1
    if not all(s.isdecimal() and 1 <= int(s) <= largest for s in SHIFTS.value) or not SHIFTS.value:
        given = ",".join(SHIFTS.value)
        raise UserError(f"--shifts={given} must be whole numbers of pixels from 1 to {largest}")
    latents = sample_latents(jax.random.key(0), NUM.value, generator.noise_dim)
    if WORKDIR.value is None:
        variables = init_variables(generator, CONFIG.value.seed, latents, train=False)
        variables = equivariance.all_foreground(generator, variables)
    shifts = [int(shift) for shift in SHIFTS.value]
    errors = equivariance.errors_of_both_grids(generator, variables, latents, shifts)

    content = {
        grid: {"shifts": shifts, "masks": _rows(e.masks), "image": _rows(e.image)}
        for grid, e in errors.items()
    }
    print("grid shift masks image (mean errors over all distances from the border)")
    for grid, measured in errors.items():
        for shift, masks, image in zip(shifts, *measured.beyond(0), strict=True):
            print(f"{grid} {shift} {masks:.2e} {image:.2e}")
    write_whole(f"{OUTPUT.value}/equivariance.json", json.dumps(content) + "\n")
    save_png(f"{OUTPUT.value}/equivariance.png", plot_equivariance(errors))


def _rows(values: Any) -> list[list[float | None]]:
    """Returns rows for JSON; NaN, where nothing was compared, becomes null."""
    return [[value if value == value else None for value in row] for row in values.tolist()]


if __name__ == "__main__":
    app.run(main)
