"""How exactly accelerators multiply float32 values.

JAX's default is fast: on a TPU the factors of a float32 product or convolution are rounded to
bfloat16 (8 bits), on an Ampere or Hopper GPU to TF32 (11 bits). CPUs round nothing. What says where
something is asks for `EXACT` wherever it is computed; how exactly the networks multiply is a
setting.
"""

import contextlib
from typing import Literal

Precision = Literal["default", "high", "highest"]

EXACT: Precision = "highest"
"""Full float32, for coordinates, heatmaps and measures."""


def of_products(precision: Precision) -> contextlib.AbstractContextManager[None]:
    """Makes products traced below multiply float32 values so exactly, unless they say how.

    Args:
      precision: "default" leaves it to JAX's own setting; "high" is three passes of bfloat16 on a
        TPU and TF32 on a GPU; "highest" is full float32.
    """
    if precision == "default":
        return contextlib.nullcontext()
    import jax  # Settings are read before JAX is started.

    return jax.default_matmul_precision(precision)
