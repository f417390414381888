#!/bin/bash
# Optax's optimisers do not run under JAX's strict type promotion.
#
# Expected: `jax_numpy_dtype_promotion=strict` refuses mixed types in one's own code, and libraries
# that say they are dtype-safe pass. Tests of a training step can then run under it as a whole.
# Seen (jax 0.10.2, optax 0.2.8): the update of optax.adam, with float32 parameters and gradients,
# raises TypePromotionError: its bias correction computes decay ** count with a Python float and an
# int32 array. optax.cosine_decay_schedule of an int32 step raises it too; optax.sgd passes. Strictness
# can therefore be asked for around the networks and losses only, not around a training step.
#
# Exit status: 0 as described, 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 optax==0.2.8
cd "$folder"
cat > check.py <<'PY'
import jax
import jax.numpy as jnp
import optax

jax.config.update("jax_numpy_dtype_promotion", "strict")


def outcome(run):
    try:
        run()
    except Exception as error:
        return type(error).__name__
    return "runs"


def update(optimizer):
    params = {"w": jnp.ones(3, jnp.float32)}
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    return optax.apply_updates(params, updates)


seen = {
    "adam": outcome(lambda: update(optax.adam(1e-3))),
    "sgd": outcome(lambda: update(optax.sgd(1e-3))),
    "cosine schedule": outcome(lambda: optax.cosine_decay_schedule(1.0, 10)(jnp.int32(3))),
}
print("jax", jax.__version__, "optax", optax.__version__, seen)
expected = {"adam": "TypePromotionError", "sgd": "runs", "cosine schedule": "TypePromotionError"}
raise SystemExit(seen != expected)
PY
JAX_PLATFORMS=cpu "$folder/venv/bin/python" check.py
