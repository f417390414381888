"""How far our networks are from the published ones, in float32 and with bfloat16 compute.

    python -m tests.parity.report

prints a Markdown table of relative errors (largest absolute difference over largest absolute
value) against the golden tensors, on however many devices there are.
"""

import jax
import jax.numpy as jnp

from tests.parity import test_discriminator, test_generator, test_segmenter

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def rows():
    """(network, quantity, {dtype: error}) of everything compared."""
    for name in test_generator.NAMES:
        golden, module, variables, latents, area_form = test_generator.load(name)
        for mode in ("eval", "train"):
            errors = {}
            for label, dtype in DTYPES.items():
                output = test_generator.run(module.clone(dtype=dtype), variables, latents, mode)
                errors[label] = test_generator.errors_of(output, golden, mode, area_form)
            yield from _by_quantity(f"generator {name}, {mode}", errors)
    errors = {label: test_discriminator.errors_with(dtype) for label, dtype in DTYPES.items()}
    yield from _by_quantity("discriminator", errors)
    golden, module, variables = test_segmenter.load()
    errors = {
        label: test_segmenter.errors_of(golden, module.clone(dtype=dtype), variables)
        for label, dtype in DTYPES.items()
    }
    yield from _by_quantity("segmenter", errors)


def _by_quantity(network, errors):
    for key in errors["float32"]:
        yield network, key, {label: each[key] for label, each in errors.items()}


def main():
    print(f"jax {jax.__version__}, {jax.device_count()} {jax.default_backend()} device(s)\n")
    print("| network | quantity | float32 | bfloat16 |\n| --- | --- | --- | --- |")
    for network, key, errors in rows():
        cells = " | ".join(f"{errors[label]:.1e}" for label in DTYPES)
        print(f"| {network} | {key} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
