"""Networks of a few dozen parameters, so that a training step compiles in seconds."""

import jax
import numpy as np

from ganseg_jax.config import with_fields
from ganseg_jax.config.schema import Gan as GanSettings
from ganseg_jax.models.deeplab import DeepLabV3
from ganseg_jax.models.discriminator import Discriminator
from ganseg_jax.models.generator import Generator
from ganseg_jax.training.gan import Gan
from ganseg_jax.training.segmenter import Segmentation

BATCH, SIZE = 8, 8
GENERATOR = Generator(
    num_parts=2,
    points_per_part=3,
    noise_dim=4,
    embedding_dim=4,
    stage_sizes=(SIZE,),
    stage_channels=(4,),
    margin=1,
    spade_hidden=4,
    point_layers=1,
    point_divisor=1.0,
)
DISCRIMINATOR = Discriminator(channels=(4,), hidden=4)


def small_gan(**settings) -> Gan:
    """Batches of 8, the penalty in every third step, both other terms in every second."""
    chosen = {"batch_size": BATCH, "gradient_penalty__interval": 3} | settings
    fields = {name.replace("__", "."): value for name, value in chosen.items()}
    starts = {n: fields[n] for n in ("point_spread", "background_start") if n in fields}
    return Gan(GENERATOR.clone(**starts), DISCRIMINATOR, with_fields(GanSettings(), fields))


def small_segmentation() -> Segmentation:
    """A ResNet-18 of two to sixteen channels, taught by the generator of `small_gan`."""
    segmenter = DeepLabV3(
        num_classes=GENERATOR.num_parts + 1,
        backbone="resnet18",
        width=1 / 32,
        output_stride=4,
        atrous_rates=(1,),
        stem_pool=False,
        initialisation="he",
    )
    return Segmentation(GENERATOR, segmenter, BATCH, learning_rate=1e-2)


def photos(step: int) -> dict[str, np.ndarray]:
    """The training batch of a step."""
    rng = np.random.default_rng(step)
    return {"image": rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)}


def assert_equal(a, b):
    """Bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def differ(a, b) -> bool:
    """Whether any leaf differs."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return any(not np.array_equal(x, y) for x, y in pairs)
