"""The generator: `Generator` puts the three levels together, each level has a file of its own."""

from ganseg_jax.models.generator.generator import (
    Generator,
    GeneratorOutput,
    check_generator_settings,
)
from ganseg_jax.models.generator.points import PartScale
from ganseg_jax.models.generator.stages import stage_margins

__all__ = [
    "Generator",
    "GeneratorOutput",
    "PartScale",
    "check_generator_settings",
    "stage_margins",
]
