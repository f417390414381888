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
from pathlib import Path
from typing import Any

from absl import flags

from ganseg_jax.cli import app

LOG = logging.getLogger("ganseg_jax.sample")
MODEL = app.define_model()
OUTPUT = flags.DEFINE_string("output", None, "Folder to write to; by default one in the workdir.")
NUM = flags.DEFINE_integer("num", 64, "Number of samples.")
SEED = flags.DEFINE_integer("seed", 0, "Decides the latents.")
FOR_LABELLING = flags.DEFINE_integer("for_labelling", None, "Write so many images to label.")
INTERPOLATE = flags.DEFINE_bool("interpolate", False, "Also draw how single latents move.")

BATCH_SIZE = 32
SHEET_SAMPLES = 64
INTERPOLATION_STEPS = 8


def main() -> None:
    import jax

    from ganseg_jax import loading
    from ganseg_jax.errors import UserError

    for flag in (NUM, FOR_LABELLING):
        if flag.value is not None and flag.value < 1:
            raise UserError(f"--{flag.name}={flag.value} must be at least 1")
    if FOR_LABELLING.value and INTERPOLATE.value:
        raise UserError("--interpolate does not go together with --for_labelling")
    generator, variables = loading.load_generator(MODEL())
    if jax.process_index():
        return
    variables = jax.device_put(variables)
    if FOR_LABELLING.value:
        _write_to_label(generator, variables, _output("to_label"))
    else:
        _write_samples(generator, variables, _output("generated"))


def _output(default: str) -> Path:
    if OUTPUT.value:
        return Path(OUTPUT.value)
    # A model of the package is no place to write to.
    pretrained = flags.FLAGS.pretrained
    return Path(f"{pretrained}_{default}") if pretrained else Path(flags.FLAGS.workdir) / default


def _write_to_label(generator: Any, variables: Any, output: Path) -> None:
    from ganseg_jax import prng
    from ganseg_jax.fewshot import samples
    from ganseg_jax.fewshot.source import Source

    key = prng.root_key(SEED.value)
    source, count = Source.of(generator), FOR_LABELLING.value
    samples.write_samples(output, source, variables, key, count)
    LOG.info(
        "%d images in %s; label them with `python -m experiments.label --images=%s "
        "--classes=NAME,NAME,...`",
        count,
        output,
        output,
    )


def _write_samples(generator: Any, variables: Any, output: Path) -> None:
    import io

    import numpy as np
    from tqdm import tqdm

    from ganseg_jax import prng
    from ganseg_jax.errors import UserError
    from ganseg_jax.fewshot.samples import LATENTS_FILE
    from ganseg_jax.fewshot.source import latents_to_arrays
    from ganseg_jax.files import write_whole
    from ganseg_jax.latents import sample_latents
    from ganseg_jax.pixels import to_uint8
    from ganseg_jax.report.png import save_label_png, save_png

    if (output / LATENTS_FILE).exists():
        raise UserError(f"{output} holds samples already: choose another --output, or remove it")
    count = NUM.value
    latents = sample_latents(prng.root_key(SEED.value), count, generator.noise_dim)
    names = [f"sample_{i:04d}" for i in range(count)]
    shown = []
    with tqdm(total=count, desc="sampling", unit=" images", disable=None) as bar:
        for start, out in _in_batches(generator, variables, latents):
            chosen = names[start : start + len(out.image)]
            pictures, labels = to_uint8(out.image), np.argmax(out.masks, -1)
            for name, picture, label in zip(chosen, pictures, labels, strict=True):
                save_png(output / "images" / f"{name}.png", picture)
                save_label_png(output / "masks" / f"{name}.png", label)
            if start < SHEET_SAMPLES:
                shown.append(out)
            bar.update(len(chosen))
    save_png(output / "samples.png", _sheet(generator, shown, SHEET_SAMPLES))
    if INTERPOLATE.value:
        moving = _interpolations(latents)
        frames = [out for _, out in _in_batches(generator, variables, moving)]
        save_png(output / "interpolation.png", _sheet(generator, frames, len(moving.z_point)))
    # The latents last: a folder with this file is complete.
    buffer = io.BytesIO()
    np.savez(buffer, names=np.array(names), **latents_to_arrays(latents))
    write_whole(output / LATENTS_FILE, buffer.getvalue())
    LOG.info("%d samples in %s", count, output)


def _in_batches(generator: Any, variables: Any, latents: Any):
    """Yields (index of the first, outputs on the host) of all latents, one batch at a time."""
    import jax
    import numpy as np

    latents = jax.device_get(latents)
    count = len(latents.z_point)
    size = min(BATCH_SIZE, count)
    apply = jax.jit(lambda variables, latents: generator.apply(variables, latents, train=False))
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        # The last batch repeats the last sample, so that one compiled program does them all.
        batch = jax.tree.map(lambda x, rows=rows: x[np.minimum(rows, count - 1)], latents)
        out = jax.device_get(apply(variables, batch))
        yield start, jax.tree.map(lambda x, start=start: x[: count - start], out)


def _interpolations(latents: Any) -> Any:
    """From the first sample: z_point moves to another one, then z_app; the rest stays.

    The way is the great circle's, on which the latents in between are as long as drawn ones.
    """
    import jax
    import jax.numpy as jnp

    from ganseg_jax import prng
    from ganseg_jax.latents import sample_latents

    dim = latents.z_point.shape[1]
    # The ends: not among the samples, of which there may be only one.
    key = prng.stream(prng.root_key(SEED.value), "interpolation")
    ends = sample_latents(key, 1, dim)
    first = jax.tree.map(lambda x: jnp.repeat(x[:1], INTERPOLATION_STEPS, 0), latents)
    angle = jnp.linspace(0, jnp.pi / 2, INTERPOLATION_STEPS)[:, None]

    def way(name: str) -> Any:
        start, end = getattr(first, name), getattr(ends, name)
        return first.replace(**{name: jnp.cos(angle) * start + jnp.sin(angle) * end})

    moving = [way("z_point"), way("z_app")]
    return jax.tree.map(lambda *x: jnp.concatenate(x), *moving)


def _sheet(generator: Any, outputs: list[Any], most: int) -> Any:
    import jax
    import numpy as np

    from ganseg_jax.report.sheets import sample_sheet

    out = jax.tree.map(lambda *x: np.concatenate(x)[:most], *outputs)
    return sample_sheet(
        out.image, out.masks, out.points, out.part_centers, INTERPOLATION_STEPS, grid=generator.grid
    )


if __name__ == "__main__":
    app.run(main)
