"""The programs that training and inference run, to be compiled without data or trained networks."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ganseg_jax import latents, prng
from ganseg_jax.config import Config
from ganseg_jax.models.build import build_generator
from ganseg_jax.pixels import to_unit_range
from ganseg_jax.precision import of_products
from ganseg_jax.training import gan, harness, partition, segmenter, self_training
from ganseg_jax.training.stage import Stage


def _generator(config: Config, mesh: Mesh) -> jax.stages.Lowered:
    generator, size = build_generator(config), config.gan.batch_size
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    drawn = jax.eval_shape(
        lambda: latents.sample_latents(prng.root_key(0), size, generator.noise_dim)
    )

    def apply(variables: Any, drawn: latents.Latents) -> tuple[jax.Array, jax.Array]:
        with of_products(config.evaluation.precision):
            out: Any = generator.apply(variables, drawn, train=False)
        return out.image, out.masks

    lowered: jax.stages.Lowered = jax.jit(
        apply, in_shardings=(whole, split), out_shardings=split
    ).lower(partition.shapes(gan.generator_shapes(config), whole), partition.shapes(drawn, split))
    return lowered


def _segmenter(config: Config, mesh: Mesh) -> jax.stages.Lowered:
    networks, size = segmenter.Segmentation.of(config), config.segmenter.batch_size
    whole, split = partition.replicated(mesh), partition.batch_split(mesh)
    state = jax.eval_shape(lambda: segmenter.init_state(networks, config.seed))
    photos = jax.ShapeDtypeStruct((size, config.image_size, config.image_size, 3), jnp.uint8)

    def predict(variables: Any, photos: jax.Array) -> jax.Array:
        with of_products(config.evaluation.precision):
            logits: Any = networks.segmenter.apply(variables, to_unit_range(photos), train=False)
        return jnp.argmax(logits, -1).astype(jnp.uint8)

    lowered: jax.stages.Lowered = jax.jit(
        predict, in_shardings=(whole, split), out_shardings=split
    ).lower(partition.shapes(state.segmenter, whole), partition.shapes(photos, split))
    return lowered


def _step_of(outline: Callable[[Config], Stage]) -> Callable[[Config, Mesh], jax.stages.Lowered]:
    def lower(config: Config, mesh: Mesh) -> jax.stages.Lowered:
        stage = outline(config)
        assert stage.batch is not None
        partition.check_batch_size(*stage.batch, mesh)
        return harness.lower(stage, mesh)

    return lower


LOWER: dict[str, Callable[[Config, Mesh], jax.stages.Lowered]] = {
    "gan_step": _step_of(gan.outline),
    "segmenter_step": _step_of(lambda c: segmenter.outline(c, gan.generator_shapes(c))),
    "self_training_step": _step_of(lambda c: self_training.outline(c, gan.generator_shapes(c))),
    "generator": _generator,
    "segmenter": _segmenter,
}
"""(config, mesh) -> lowered program, by its name on the command line."""
