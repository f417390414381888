"""What a GAN step sends between devices, and an estimate of its time on more of them.

XLA_FLAGS=--xla_force_host_platform_device_count=8 JAX_PLATFORMS=cpu \\
    python -m experiments.scaling --config=configs/X.py [--chips=8,64,512] [--images_per_chip=64]
    [--chip_flops=F] [--bandwidth=B] [--latency=L]

Compiles the step for the devices that are there, with the config's batch, and counts operations
and collectives; runs nothing. The estimate is a calculation with the given speeds: two tables, with
the config's batch split over all chips, and with the same number of images on each. The last line
printed is a JSON object.
"""

import dataclasses
import json

from absl import flags

from ganseg_jax.cli import app

CONFIG = app.define_config()
_CHIPS = flags.DEFINE_list("chips", ["8", "64", "512"], "Numbers of devices to estimate.")
_IMAGES = flags.DEFINE_integer("images_per_chip", 64, "Images on each, in the second table.")
_FLOPS = flags.DEFINE_float("chip_flops", 200e12, "Operations a second the step reaches.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", 50e9, "Bytes a second sent by each device.")
_LATENCY = flags.DEFINE_float("latency", 5e-6, "Seconds from device to device.")


def main() -> None:
    import jax

    from ganseg_jax.errors import UserError
    from ganseg_jax.studies import communication

    if not all(number.isdecimal() and int(number) for number in _CHIPS.value):
        raise UserError(f"--chips={','.join(_CHIPS.value)} must be whole numbers from 1")
    counts = [int(number) for number in _CHIPS.value]
    config = CONFIG.value
    flops, traffic, parameters = count(config)
    chip = communication.Chip(_FLOPS.value, _BANDWIDTH.value, _LATENCY.value)
    batch = config.gan.batch_size
    tables = {
        f"{batch} images on all chips": [(c, batch) for c in counts if batch % c == 0],
        f"{_IMAGES.value} images on each chip": [(c, c * _IMAGES.value) for c in counts],
    }
    for title, rows in tables.items():
        print(f"{title}:")
        print(f"{'chips':>6}{'compute ms':>12}{'network ms':>12}{'images/s':>12}{'of ideal':>10}")
        for chips, images in rows:
            computing, network = communication.step_seconds(
                flops * images / batch, traffic, chips, chip
            )
            total = computing + network
            print(
                f"{chips:>6}{computing * 1e3:>12.2f}{network * 1e3:>12.2f}{images / total:>12.0f}"
                f"{computing / total:>10.1%}"
            )
    facts = {
        "devices": jax.device_count(),
        "batch_size": batch,
        "flops_per_step": flops,
        "parameters": parameters,
        "communication": {kind: dataclasses.asdict(t) for kind, t in traffic.items()},
    }
    print(json.dumps(facts))


def count(config):
    """Operations of a step over all devices, its collectives, and the networks' parameters."""
    import jax

    from ganseg_jax.studies import benchmark_cases, communication
    from ganseg_jax.training import gan

    state = jax.eval_shape(lambda: gan.init_state(gan.Gan.of(config), config.seed))
    params = (state.generator["params"], state.discriminator["params"])
    lowered, counted = benchmark_cases.lower_gan_step(config)
    return (
        benchmark_cases.flops(counted),
        communication.communication(lowered.compile()),
        [sum(x.size for x in jax.tree.leaves(network)) for network in params],
    )


if __name__ == "__main__":
    app.run(main)
