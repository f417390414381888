"""Feature maps of a ResNet whose weights the user gives, for deep feature factorisation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from ganseg_jax.config import Config
from ganseg_jax.errors import UserError
from ganseg_jax.interop import weights
from ganseg_jax.interop.torch_deeplab import load_backbone
from ganseg_jax.precision import EXACT, of_products

FIELD = "evaluation.backbone_checkpoint"

# Of ImageNet, in [0, 1]: what published classifiers were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_LEAST_SIZE = 128

FeatureMapFn = Callable[[UInt8[np.ndarray, "n s s 3"]], Float[np.ndarray, "n h w d"]]


def load_feature_maps(config: Config) -> FeatureMapFn | None:
    """Loads what gives the maps of `evaluation.backbone_checkpoint`; None if that is empty.

    The maps are an eighth of the image's size, and not negative. Images are normalised as for
    ImageNet; smaller ones are enlarged to 128 px, because classifiers know no smaller things.

    Raises:
      UserError: naming the field and the file, where that is missing, damaged, or of another
        network.
    """
    path = config.evaluation.backbone_checkpoint
    if not path:
        return None
    try:
        module, variables = load_backbone(weights.read(path))
    except UserError as error:
        raise UserError(f"{FIELD}={path!r}: {error}") from error
    variables = jax.device_put(variables)

    @jax.jit
    def maps_of(variables, images):
        batch, size = images.shape[0], max(images.shape[1], _LEAST_SIZE)
        x = jax.image.resize(normalised(images), (batch, size, size, 3), "linear")
        with of_products(EXACT):
            return module.apply(variables, x, train=False)

    def feature_fn(images: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n h w d"]:
        return np.asarray(maps_of(variables, images))

    return feature_fn


def normalised(images: UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Returns images as networks that were trained on ImageNet expect their colours."""
    return (images.astype(jnp.float32) / 255 - jnp.array(_MEAN)) / jnp.array(_STD)
