"""How fast a config's parts run here.

python -m experiments.benchmark --config=configs/X.py --what=WHAT [--batch_size=N]
    [--dtype=float32|bfloat16] [--steps=10] [--profile=DIR] [--table]

WHAT is one of

  gan_step         one update of discriminator and generator, with both generator penalties and
                   without the gradient penalty, which is left out in most steps; where it is,
                   `seconds_with_gradient_penalty` is a step with it, and `mean_seconds_per_step`
                   the mean over its interval, what training takes
  generator        one generator pass, for sampling
  segmenter        one segmenter pass, from uint8 images to labels
  segmenter_step   one segmenter update, the generator's samples for it included
  input_pipeline   reading, decoding and augmenting the training photos, without a device

The last line printed is a JSON object. `seconds_per_step` is the median of the steps after
warm-up; `flops_per_step` are those of the program over all devices, `peak_memory_bytes` those of
it on one, `communication_bytes` what its collectives put together (reductions, gathers);
`matrix_flops_per_second` is what one device reaches in a large matrix product of the
same type, and `utilization` the share of it that the step reaches. What is not known is null.
Weights and images are random; compiled programs are not taken from the cache. --table also
measures a quarter, half and twice the batch size, in both types if --dtype is not given.
"""

import collections
import dataclasses
import functools
import json
import math
import statistics
import time
from typing import Any

from absl import flags

from ganseg_jax.cli import app, config_flag
from ganseg_jax.studies import benchmark_cases

CONFIG = config_flag.define()
_WHAT = flags.DEFINE_enum(
    "what", None, list(benchmark_cases.BUILDERS), "What to measure.", required=True
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", None, "Images in a step; default: the config's.")
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Compute type; default: the config's."
)
_STEPS = flags.DEFINE_integer("steps", 10, "Steps to measure.")
_PROFILE = flags.DEFINE_string("profile", None, "Folder for a trace of three more steps.")
_TABLE = flags.DEFINE_bool("table", False, "Other batch sizes and types too.")

WARM_UP_STEPS = 2
PROFILED_STEPS = 3


def main() -> None:
    import jax

    from ganseg_jax.errors import UserError

    for flag in (_BATCH_SIZE, _STEPS):
        if flag.value is not None and flag.value < 1:
            raise UserError(f"--{flag.name}={flag.value} must be at least 1")
    # A program taken from the cache would make compile_seconds meaningless.
    jax.config.update("jax_enable_compilation_cache", False)
    rows = [measure(*case) for case in _cases()]
    if jax.process_index():
        return
    if _TABLE.value:
        print(format_table(rows))
    last = rows[-1]
    if "error" in last:
        raise UserError(
            f"--batch_size={last['batch_size']} does not fit into the device's memory: "
            "choose a smaller one"
        )
    print(json.dumps(last))


def _cases() -> list[tuple[str, int, str]]:
    """Returns (what, batch size, dtype) to measure; the one asked for comes last."""
    import jax

    config, what = CONFIG.value, _WHAT.value
    section = config.segmenter if what.startswith("segmenter") else config.gan
    asked = (_BATCH_SIZE.value or section.batch_size, _DTYPE.value or config.dtype)
    cases = [asked]
    if _TABLE.value:
        dtypes = [_DTYPE.value] if _DTYPE.value else ["float32", "bfloat16"]
        if what == "input_pipeline":
            dtypes = [asked[1]]  # It has no compute type.
        sizes = [math.floor(asked[0] * factor) for factor in (0.25, 0.5, 1, 2)]
        fitting = [n for n in sizes if n and n % jax.device_count() == 0]
        others = [(n, dtype) for dtype in dtypes for n in fitting]
        cases = [case for case in others if case != asked] + cases
    return [(what, *case) for case in cases]


def measure(what: str, batch_size: int, dtype: str) -> dict[str, Any]:
    """Measures one case; the result has `error` where the device's memory does not suffice."""
    import jax

    from ganseg_jax.config import with_fields

    changed = {"dtype": dtype, "gan.batch_size": batch_size, "segmenter.batch_size": batch_size}
    config = with_fields(CONFIG.value, changed)
    facts = {"what": what, "batch_size": batch_size, "dtype": dtype}
    try:
        case = benchmark_cases.BUILDERS[what](config)
        seconds = seconds_per_step(case, _STEPS.value)
        penalized = penalized_seconds(case, seconds, _STEPS.value)
        if _PROFILE.value:
            with jax.profiler.trace(_PROFILE.value):
                for _ in range(PROFILED_STEPS):
                    case.prepare()
                    case.run()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        return facts | {"error": "out of memory"}
    rate = matrix_flops_per_second(dtype) if case.flops else None
    count = jax.device_count()
    return facts | {
        "image_size": config.image_size,
        "device": jax.devices()[0].device_kind,
        "num_devices": count,
        "seconds_per_step": seconds,
        "images_per_second": batch_size / seconds,
        "compile_seconds": case.compile_seconds,
        "flops_per_step": case.flops,
        "peak_memory_bytes": case.peak_memory,
        "communication_bytes": case.communication,
        "matrix_flops_per_second": rate,
        "utilization": case.flops / seconds / rate / count if case.flops and rate else None,
        **penalized,
        **case.facts,
    }


def penalized_seconds(case: benchmark_cases.Case, seconds: float, steps: int) -> dict[str, float]:
    """Measures a step with the gradient penalty, and the mean over its interval."""
    if case.prepare_penalized is None:
        return {}
    other = dataclasses.replace(case, prepare=case.prepare_penalized)
    slower = seconds_per_step(other, steps)
    mean = seconds + (slower - seconds) / case.penalty_interval
    return {"seconds_with_gradient_penalty": slower, "mean_seconds_per_step": mean}


def seconds_per_step(case: benchmark_cases.Case, steps: int) -> float:
    """Measures the median step after warm-up, or the median mean of bursts of steps."""
    times = []
    for _ in range(WARM_UP_STEPS * case.burst):
        case.prepare()
        case.run()
    for _ in range(steps):
        case.prepare()
        start = time.perf_counter()
        for _ in range(case.burst):
            case.run()
        times.append((time.perf_counter() - start) / case.burst)
    return statistics.median(times)


@functools.cache
def matrix_flops_per_second(dtype: str) -> float:
    """Measures the best rate of square matrix products, of growing size, on one device."""
    import jax

    multiply = jax.jit(lambda a, b: a @ b)
    best, size = 0.0, 512
    while True:
        keys = jax.random.split(jax.random.key(0))
        a, b = (jax.random.normal(key, (size, size), dtype) for key in keys)
        multiply(a, b).block_until_ready()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            multiply(a, b).block_until_ready()
            times.append(time.perf_counter() - start)
        best = max(best, 2 * size**3 / min(times))
        # 20 ms are enough for launching to take no part.
        if min(times) > 0.02 or size >= 16384:
            return best
        size *= 2


def format_table(rows: list[dict[str, Any]]) -> str:
    """Returns the results as aligned columns."""
    names = ("dtype", "batch", "ms/step", "images/s", "TFLOP/s", "utilization", "GiB", "compile s")
    lines = [names]
    for row in sorted(rows, key=lambda row: (row["dtype"], row["batch_size"])):
        start = (row["dtype"], str(row["batch_size"]))
        if "error" in row:
            lines.append((*start, row["error"], *[""] * (len(names) - 3)))
            continue
        row = collections.defaultdict(lambda: None, row)
        flops = row["flops_per_step"]
        numbers = (
            (row["seconds_per_step"] * 1e3, ".2f"),
            (row["images_per_second"], ".1f"),
            (flops and flops / row["seconds_per_step"] / 1e12, ".3f"),
            (row["utilization"], ".1%"),
            (row["peak_memory_bytes"] and row["peak_memory_bytes"] / 2**30, ".2f"),
            (row["compile_seconds"], ".1f"),
        )
        lines.append((*start, *(format(x, how) if x is not None else "-" for x, how in numbers)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


if __name__ == "__main__":
    app.run(main)
