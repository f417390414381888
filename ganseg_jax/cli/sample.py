"""Images, masks and latents of a trained generator.

python -m experiments.sample --workdir=W [--output=DIR] [--num=64] [--seed=0] [--interpolate]
python -m experiments.sample --workdir=W [--output=DIR] --for_labelling=10 [--seed=0]

With --pretrained=people in place of --workdir=W, a model that comes with the package draws.
The first writes, into W/generated or DIR:

  samples.png              a sheet of the first samples: image, points, masks
  images/sample_0000.png   each image
  masks/sample_0000.png    its label map, an indexed PNG: 0 background, 1 ... K the parts
  interpolation.png        with --interpolate: pose moves (z_point) from left to right in one block
                           of rows, the look of the parts (z_app) in the other
  latents.npz              `names` and one array for each latent, a row for each image

The second writes into one folder, W/to_label or DIR, what `experiments.label` and
`experiments.few_shot` read: sample_0000.png, sample_0001.png, ... and latents.npz.

Sample i depends on --seed alone, not on --num.
"""

import logging

from absl import flags
from etils import epath

from ganseg_jax import hub, packed, parts
from ganseg_jax.cli import app, places
from ganseg_jax.errors import UserError, command

LOG = logging.getLogger("ganseg_jax.sample")
MODEL = places.define_model()
OUTPUT = places.define_output(None, "Folder to write to; by default one in the workdir.")
NUM = flags.DEFINE_integer("num", 64, "Number of samples.")
SEED = flags.DEFINE_integer("seed", 0, "Decides the latents.")
FOR_LABELLING = flags.DEFINE_integer("for_labelling", None, "Write so many images to label.")
INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Also draw how single latents move.")


def main() -> None:
    import jax

    from ganseg_jax.jobs.sample import write_samples
    from ganseg_jax.loading import load_generator

    for flag in (NUM, FOR_LABELLING):
        if flag.value is not None and flag.value < 1:
            raise UserError(f"--{flag.name}={flag.value} must be at least 1")
    if FOR_LABELLING.value and INTERPOLATE.value:
        raise UserError("--interpolate does not go together with --for_labelling")
    place = MODEL()
    generator, variables = load_generator(place)
    if jax.process_index():
        return
    if FOR_LABELLING.value:
        _write_to_label(generator, variables, _output("to_label"))
    else:
        classes = parts.shown_as(place, generator.num_parts + 1)
        drawn = NUM.value, SEED.value, INTERPOLATE.value
        write_samples(generator, variables, _output("generated"), *drawn, classes)


def _output(default: str) -> epath.Path:
    if OUTPUT.value:
        return epath.Path(OUTPUT.value)
    # A model of the package or of a hub is no place to write to.
    name = flags.FLAGS.pretrained or flags.FLAGS.model or flags.FLAGS.workdir
    if hub.is_named(name):
        return epath.Path(f"{packed.short_name(name)}_{default}")
    if name in packed.names() and packed.find(name) != epath.Path(name):
        return epath.Path(f"{name}_{default}")
    return epath.Path(name) / default


def _write_to_label(generator, variables, output: epath.Path) -> None:
    from ganseg_jax import prng
    from ganseg_jax.fewshot import samples
    from ganseg_jax.fewshot.source import Source

    key, count = prng.root_key(SEED.value), places.required(FOR_LABELLING)
    samples.write_samples(output, Source.of(generator), variables, key, count)
    LOG.info(
        "%d images in %s; label them with `%s --images=%s --classes=NAME,NAME,...`",
        *(count, output, command("label"), output),
    )


if __name__ == "__main__":
    app.run(main)
