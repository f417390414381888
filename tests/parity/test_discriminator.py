"""The discriminator against golden tensors of the published model."""

import jax
import jax.numpy as jnp

from ganseg_jax import losses
from ganseg_jax.interop import torch_ganseg
from tests.parity import fill


def errors_with(dtype):
    """Relative errors of logits, gradient norms and penalty, computed in `dtype`."""
    golden = fill.golden("discriminator")
    state_dict = fill.fill(fill.shapes("state_dict_shapes:discriminator"))
    module, variables = torch_ganseg.load_discriminator(state_dict)
    module = module.clone(dtype=dtype)

    @jax.jit
    def run(variables, images):
        def logits_of(x):
            return module.apply(variables, x)

        norms = jnp.sqrt(losses.gradient_penalty(logits_of, images, "r1"))
        penalty = losses.gradient_penalty(logits_of, images, "unit_norm")
        return logits_of(images), norms, 10 * penalty.mean()

    got = run(variables, fill.nhwc(golden["img"]))
    return {
        key: fill.relative_error(value, golden[key])
        for key, value in zip(("logits", "grad_norm", "penalty"), got, strict=True)
    }


def test_logits_gradients_and_penalty():
    errors = errors_with(jnp.float32)
    print(errors)
    assert max(errors.values()) <= 1e-4, errors
