"""Adam, over all parameters as one vector unless they are sharded.

The networks have hundreds of small parameters; updating them one by one makes a thousand small
kernels, which take longer to compile than the rest of the step and cost launches on accelerators.
"""

from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax


def adam(
    learning_rate: float, beta1: float, beta2: float, flat: bool = True
) -> optax.GradientTransformation:
    """Returns Adam (epsilon 1e-8) whose moments are single vectors.

    With `flat=False` they have the parameters' shapes, to be sharded like them: one vector would
    bring all of them together on every device.
    """
    plain = optax.adam(learning_rate, beta1, beta2)
    transform = optax.flatten(plain) if flat else plain

    def init(params: Any) -> Any:
        # All zeros, made on the host: on the device dozens of programs would be compiled for it.
        state = jax.eval_shape(transform.init, params)
        return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)

    return optax.GradientTransformation(init, transform.update)


def flat_norm(tree: Any) -> jax.Array:
    """Returns the L2 norm of all leaves together."""
    return jnp.linalg.norm(jax.flatten_util.ravel_pytree(tree)[0])
