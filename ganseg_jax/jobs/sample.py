"""Draws samples of a generator: images, masks, latents, and how single latents move."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import UInt8
from tqdm import tqdm

from ganseg_jax import prng
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.samples import LATENTS_FILE, save_latents
from ganseg_jax.fewshot.source import latents_to_arrays
from ganseg_jax.files import resolve
from ganseg_jax.latents import Latents, sample_latents
from ganseg_jax.loading import Variables
from ganseg_jax.models.generator import Generator, GeneratorOutput
from ganseg_jax.pixels import to_uint8
from ganseg_jax.precision import EXACT, of_products
from ganseg_jax.report.classes import Classes, usual
from ganseg_jax.report.png import save_label_png, save_png
from ganseg_jax.report.sheets import SAMPLE_ROWS, sample_sheet

LOG = logging.getLogger(__name__)

BATCH_SIZE = 32
SHEET_SAMPLES = 64
INTERPOLATION_STEPS = 8


def write_samples(
    generator: Generator,
    variables: Variables,
    output: epath.PathLike,
    count: int,
    seed: int,
    interpolate: bool = False,
    classes: Classes | None = None,
) -> None:
    """Writes samples; see `experiments.sample` for the files.

    Args:
      generator: the module.
      variables: its variables.
      output: folder to write to.
      count: number of samples; sample i does not depend on it.
      seed: decides the latents.
      interpolate: also draw how z_point and z_app move.
      classes: what the parts are shown as, and counted as in label maps (`parts.shown_as`).

    Raises:
      UserError: the folder holds samples already, or cannot be written.
    """
    output = resolve(output)
    if (output / LATENTS_FILE).exists():
        raise UserError(f"{output} holds samples already: choose another --output, or remove it")
    classes = classes or usual(generator.num_parts + 1)
    latents = sample_latents(prng.root_key(seed), count, generator.noise_dim)
    names = [f"sample_{i:04d}" for i in range(count)]
    shown = []
    with tqdm(total=count, desc="sampling", unit=" images", disable=None) as bar:
        for start, out in _in_batches(generator, variables, latents):
            chosen = names[start : start + len(out.image)]
            labels = classes.of_masks(np.asarray(out.masks)).argmax(-1)
            for name, picture, label in zip(chosen, to_uint8(out.image), labels, strict=True):
                save_png(output / "images" / f"{name}.png", picture)
                save_label_png(output / "masks" / f"{name}.png", label, classes.colors)
            if start < SHEET_SAMPLES:
                shown.append(out)
            bar.update(len(chosen))
    save_png(output / "samples.png", _sheet(generator, shown, SHEET_SAMPLES, classes))
    if interpolate:
        moving = interpolations(latents, seed)
        frames = [out for _, out in _in_batches(generator, variables, moving)]
        save_png(
            output / "interpolation.png", _sheet(generator, frames, len(moving.z_point), classes)
        )
    # The latents last: a folder with this file is complete.
    save_latents(output, names, latents_to_arrays(latents))
    LOG.info("%d samples in %s", count, output)


def _in_batches(
    generator: Generator, variables: Variables, latents: Latents
) -> Iterator[tuple[int, GeneratorOutput]]:
    """Yields (index of the first, outputs on the host) of all latents, one batch at a time."""
    latents = jax.device_get(latents)
    count = len(latents.z_point)
    size = min(BATCH_SIZE, count)

    @jax.jit
    def apply(variables: Variables, latents: Latents) -> GeneratorOutput:
        with of_products(EXACT):
            output: Any = generator.apply(variables, latents, train=False)
        return output

    variables = jax.device_put(variables)
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        # The last batch repeats the last sample, so that one compiled program does them all.
        batch = jax.tree.map(lambda x, rows=rows: x[np.minimum(rows, count - 1)], latents)
        out = jax.device_get(apply(variables, batch))
        yield start, jax.tree.map(lambda x, start=start: x[: count - start], out)


def interpolations(latents: Latents, seed: int) -> Latents:
    """Returns latents on the way from the first sample: z_point moves to another one, then z_app.

    The way is the great circle's, on which the latents in between are as long as drawn ones.
    """
    dim = latents.z_point.shape[1]
    # The ends are not among the samples, of which there may be only one.
    ends = sample_latents(prng.stream(prng.root_key(seed), "interpolation"), 1, dim)
    first = jax.tree.map(lambda x: jnp.repeat(x[:1], INTERPOLATION_STEPS, 0), latents)
    angle = jnp.linspace(0, jnp.pi / 2, INTERPOLATION_STEPS)[:, None]

    def way(name: str) -> Latents:
        start, end = getattr(first, name), getattr(ends, name)
        return first.replace(**{name: jnp.cos(angle) * start + jnp.sin(angle) * end})

    return jax.tree.map(lambda *x: jnp.concatenate(x), way("z_point"), way("z_app"))


def draw_picture(
    generator: Generator,
    variables: Variables,
    count: int,
    classes: Classes,
    rows: Sequence[str] = ("image", "overlay"),
    seed: int = 0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a picture of a model: generated images, and their parts over them.

    Args:
      generator: the module.
      variables: its variables.
      count: number of samples.
      classes: what the parts are shown as.
      rows: of `report.sheets.sample_sheet`.
      seed: decides the latents.
    """
    latents = sample_latents(prng.root_key(seed), count, generator.noise_dim)
    outputs = [out for _, out in _in_batches(generator, variables, latents)]
    return _sheet(generator, outputs, count, classes, rows)


def _sheet(
    generator: Generator,
    outputs: list[GeneratorOutput],
    most: int,
    classes: Classes,
    rows: Sequence[str] = SAMPLE_ROWS,
) -> UInt8[np.ndarray, "h w 3"]:
    out = jax.tree.map(lambda *x: np.concatenate(x)[:most], *outputs)
    drawn = out.image, out.masks, out.points, out.part_centers
    columns, grid = INTERPOLATION_STEPS, generator.grid
    return sample_sheet(*drawn, columns, grid=grid, classes=classes, rows=rows)
