"""Projects photos into a generator's latent space.

python -m experiments.project --workdir=W --input=PHOTOS --output=DIR
python -m experiments.project --workdir=W --generator=STYLEGAN2.pt --input=PHOTOS --output=DIR

Looks for the latents whose image is the photo (Adam; `ganseg_jax.fewshot.projection`). Writes

  sheet.png                  photo, reconstruction and parts, side by side
  reconstructions/a.jpg.png  what the generator makes of the latents
  labels/a.jpg.png           its parts, an indexed PNG: by the head that `experiments.few_shot`
                             trained in W/few_shot, or else by GANSeg's own masks
  projection.json            {"photos": {"a.jpg": {"squared_error": E}}, "skipped": {name: reason}}
  latents.npz                `names` and one array for each latent, a row for each photo

Photos are resized to the generator's size. Without the weights of a perceptual network the distance
is the error of pixels and their differences at several sizes.
"""

import logging
import sys
from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from ganseg_jax.cli import app, places, setting_flags
from ganseg_jax.config import schema

if TYPE_CHECKING:
    from ganseg_jax.fewshot import projection

LOG = logging.getLogger("ganseg_jax.project")
WORKDIR = places.define_workdir()
INPUT = flags.DEFINE_string(
    "input", None, "A folder or tar archive of photos, or one photo.", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to.", required=True)
GENERATOR = flags.DEFINE_string(
    "generator", None, "StyleGAN2 checkpoint (.pt, .pkl, .npz, ...) instead of W's generator."
)
SPACE = flags.DEFINE_enum(
    "space", None, ["w", "w+"], "StyleGAN2: one style for all layers, or one for each (default)."
)
FEW_SHOT = flags.DEFINE_string(
    "few_shot", None, "Folder of the workdir with the head; default: few_shot where there is one."
)
PERCEPTUAL = flags.DEFINE_string("perceptual", None, "VGG-16 weights of a perceptual distance.")
NUM_STEPS = flags.DEFINE_integer("num_steps", 1000, "Steps of Adam.", lower_bound=1)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Photos at a time.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the start and the noise.")
SETTINGS = setting_flags.define_settings(schema.Dataset, {"max_megapixels": "max_megapixels"})

LOG_EVERY = 10


def main() -> None:
    from tqdm import tqdm

    from ganseg_jax import parts
    from ganseg_jax.data.layout import skipped_lines
    from ganseg_jax.fewshot import projection, results
    from ganseg_jax.fewshot.perceptual import load_perceptual
    from ganseg_jax.jobs import few_shot as run
    from ganseg_jax.jobs import project
    from ganseg_jax.loading import is_few_shot

    folder = places.few_shot_folder("few_shot" if FEW_SHOT.value is None else FEW_SHOT.value)
    source, variables = run.load_source(WORKDIR.value, GENERATOR.value)
    settings = projection.ProjectionSettings(
        space=_space(source.is_stylegan2), num_steps=NUM_STEPS.value, seed=SEED.value
    )
    head = None
    if FEW_SHOT.value or (is_few_shot(folder) and results.has_head(folder)):
        head = results.load_head(folder, source.module, variables)
        source = head.source
    distance: projection.Distance = projection.multiscale_distance
    if PERCEPTUAL.value:
        distance = load_perceptual(PERCEPTUAL.value)
    output, size = epath.Path(OUTPUT.value), source.image_size(variables)
    names, photos, skipped, summary = project.read_folder(
        INPUT.value, output, size, SETTINGS.value.max_megapixels
    )
    where = f"all listed in {output / 'projection.json'}"
    for line in [*summary, *skipped_lines(skipped.items(), where)]:
        print(line, file=sys.stderr)
    batches = -(-len(names) // BATCH_SIZE.value)
    with tqdm(total=batches * NUM_STEPS.value, desc="projecting", unit=" steps") as bar:

        def progress(done: int, loss: float) -> None:
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update(done - bar.n)

        made = project.reconstruct(
            source, variables, photos, settings, head=head, batch_size=BATCH_SIZE.value,
            distance=distance, progress=progress, log_every=LOG_EVERY,
        )  # fmt: skip
    classes = None if head is None else parts.shown_as(folder, head.classes)
    project.write(output, names, made, skipped, classes)
    LOG.info("%d photos in %s, mean squared error %.4f", len(names), output, made.errors.mean())


def _space(is_stylegan2: bool) -> "projection.Space":
    from ganseg_jax.errors import UserError

    if is_stylegan2:
        return "w" if SPACE.value == "w" else "w+"
    if SPACE.value:
        raise UserError(
            f"--space={SPACE.value} is for StyleGAN2 (--generator=FILE); all latents of the "
            "workdir's generator are looked for: leave it out"
        )
    return "latents"


if __name__ == "__main__":
    app.run(main)
