"""Whether a config's programs fit on a TPU slice, and how long a step takes, without the slice.

python -m experiments.compile --config=configs/X.py --topology=v5e:2x2
    [--what=gan_step|segmenter_step|self_training_step|generator|segmenter] [--num_slices=1]
    [--batch_size=N] [--dtype=float32|bfloat16] [--hlo=FILE] [--against=OTHER.json]

Compiles the very program that training runs on photos from the host, with the TPU's own compiler
(pip install "ganseg-jax[tpu]"), and reads what the compiler expects of it: memory, time,
operations, traffic. This is an estimate, not a measurement: operations that overlap are added, and
collectives are not counted. It depends on program and compiler alone, so that two programs can be
compared exactly. Half an hour is possible for large configs on a small machine.

The last line printed is a JSON object; --against takes a file of such a line and prints what has
changed since. `estimated_ms` is a step without the gradient penalty; what is not known is null.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from absl import flags

from ganseg_jax.cli import app, config_flag, places

_BATCH_FIELDS = {
    "gan_step": "gan.batch_size",
    "segmenter_step": "segmenter.batch_size",
    "self_training_step": "self_training.batch_size",
    "generator": "gan.batch_size",
    "segmenter": "segmenter.batch_size",
}
"""The setting that says how many images each program takes."""

CONFIG = config_flag.define()
_WHAT = flags.DEFINE_enum(
    "what",
    "gan_step",
    list(_BATCH_FIELDS),
    "The program.",
)
_TOPOLOGY = flags.DEFINE_string("topology", None, "Kind and shape of the slice: v5e:2x2.")
_SLICES = flags.DEFINE_integer("num_slices", 1, "Slices that a job runs on.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", None, "Images in a step; default: the config's.", lower_bound=1
)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Compute type; default: the config's."
)
_HLO = flags.DEFINE_string("hlo", None, "File for the compiled program's text.")
_AGAINST = flags.DEFINE_string("against", None, "A result to compare with.")

DEAREST = 20
"""Modules whose share of the estimate is printed."""

_COMPARED = ("estimated_ms", "bytes_per_chip", "temporary_bytes", "flops_per_chip")


def main() -> None:
    import jax

    from ganseg_jax import files
    from ganseg_jax.config import with_fields
    from ganseg_jax.config.setting import flat
    from ganseg_jax.errors import UserError
    from ganseg_jax.studies import compiled, programs, slices
    from ganseg_jax.training import partition

    topology, what = places.required(_TOPOLOGY), _WHAT.value
    before = _result(_AGAINST.value) if _AGAINST.value else None
    field = _BATCH_FIELDS[what]
    given = {field: _BATCH_SIZE.value, "dtype": _DTYPE.value}
    changed = {name: value for name, value in given.items() if value is not None}
    config = with_fields(CONFIG.value, changed)
    devices = slices.devices_of(topology, _SLICES.value)
    chip = slices.chip_of(devices[0])
    batch = flat(config)[field]
    mesh = slices.mesh_of(devices)
    partition.check_batch_size(field, batch, mesh)
    facts: dict[str, Any] = {
        "what": what,
        "topology": topology,
        "num_slices": _SLICES.value,
        "devices": len(devices),
        "device_kind": devices[0].device_kind,
        "batch_size": batch,
        "dtype": config.dtype,
        "image_size": config.image_size,
        "jax": jax.__version__,
        "compiler": devices[0].client.platform_version.splitlines()[0],
    }
    # A program taken from the cache would make compile_seconds meaningless.
    jax.config.update("jax_enable_compilation_cache", False)
    with _waiting(f"Compiling {what} for {topology}"):
        lowered = programs.LOWER[what](config, mesh)
        start = time.perf_counter()
        try:
            program = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise UserError(_too_large(str(error), field, batch, len(devices))) from error
        seconds = time.perf_counter() - start
    text = program.as_text() or ""
    if _HLO.value:
        files.write_whole(_HLO.value, text)
    read = compiled.parse(text)
    facts |= estimate(program, read, chip) | {"compile_seconds": round(seconds, 1)}
    print(report(facts, read, chip))
    if before is not None:
        print(comparison(before, facts))
    print(json.dumps(facts))


def estimate(program: Any, read: Any, chip: Any) -> dict[str, Any]:
    """Returns the figures of a compiled program.

    Args:
      program: as compiled.
      read: its text, as `compiled.parse` gives it.
      chip: what each device can do.
    """
    from ganseg_jax.studies import communication

    memory, cost = program.memory_analysis(), program.cost_analysis() or {}
    cheapest, dearest = read.cycles(min), read.cycles(max)
    used = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    penalized = 1e3 * dearest / chip.clock if dearest > cheapest else None
    return {
        "estimated_ms": 1e3 * cheapest / chip.clock,
        "estimated_ms_with_gradient_penalty": penalized,
        "flops_per_chip": cost.get("flops"),
        "bytes_per_chip": cost.get("bytes accessed"),
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
        "code_bytes": memory.generated_code_size_in_bytes,
        "memory_bytes": used,
        "fits": bool(used <= chip.memory),
        "collectives": {
            kind: dataclasses.asdict(traffic)
            for kind, traffic in communication.communication(program).items()
        },
    }


def report(facts: dict[str, Any], read: Any, chip: Any) -> str:
    """Returns the figures in words, and the dearest modules."""
    from ganseg_jax import chips

    ms, penalized = facts["estimated_ms"], facts["estimated_ms_with_gradient_penalty"]
    rate = facts["flops_per_chip"] / chip.flops * 1e3
    moving = facts["bytes_per_chip"] / chip.bandwidth * 1e3
    lines = [
        f"{facts['what']} on {facts['topology']}: {facts['devices']} x {facts['device_kind']}"
        f"{' (cores, two a chip)' if facts['device_kind'] in chips.CORES else ''}, "
        f"{facts['batch_size']} images, {facts['dtype']}",
        f"  estimate    {ms:.2f} ms a step"
        + (f", {penalized:.2f} ms with the gradient penalty" if penalized else ""),
        f"  arithmetic  {facts['flops_per_chip'] / 1e12:.3f} TFLOP a device, {rate:.2f} ms at "
        f"peak: {rate / ms:.0%} of the estimate",
        f"  memory      {facts['bytes_per_chip'] / 1e9:.1f} GB moved a device, {moving:.1f} ms",
        f"  needs       {facts['memory_bytes'] / 2**30:.2f} of {chip.memory / 2**30:.0f} GiB: "
        + ", ".join(
            f"{name} {facts[f'{name}_bytes'] / 2**30:.2f}"
            for name in ("argument", "temporary", "code")
        )
        + ("" if facts["fits"] else ": does not fit"),
    ]
    for kind, traffic in facts["collectives"].items():
        lines.append(
            f"  {kind:<11} {traffic['count']}, {traffic['bytes'] / 1e6:.1f} MB, "
            f"{traffic['asynchronous']} of them asynchronous"
        )
    total = max(1, sum(cycles for _, cycles in read.by_name()))
    lines.append("  Dearest modules, all branches together:")
    for name, cycles in read.by_name()[:DEAREST]:
        lines.append(f"  {1e3 * cycles / chip.clock:9.3f} ms {cycles / total:6.1%}  {name}")
    return "\n".join(lines)


def comparison(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Returns what has changed since another result, a line for each figure."""
    lines = [f"Against {before.get('what')} on {before.get('topology')}:"]
    for name in _COMPARED:
        old, new = before.get(name), now.get(name)
        if old and new:
            lines.append(f"  {name:<16} {old:,.4g} -> {new:,.4g} ({new / old:.1%})")
    return "\n".join(lines)


def _result(path: str) -> dict[str, Any]:
    """Reads a file whose last line is a result."""
    from ganseg_jax.errors import UserError

    try:
        *_, last = pathlib.Path(path).read_text().splitlines()
        found = json.loads(last)
        if "estimated_ms" not in found:
            raise ValueError("it holds no estimate")
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"--against={path} cannot be read ({error}): give a file whose last line is the last "
            "line that this command printed"
        ) from error
    return dict(found)


def _too_large(message: str, field: str, batch: int, devices: int) -> str:
    """Says that a program needs too much memory, and about which batch would fit."""
    size = r"\(?([\d.]+)([GMK])\)?"
    sizes = re.search(f"{size} (?:of|exceeds available HBM) {size}", message)
    hint = "a smaller batch, bfloat16 or a larger slice needs less"
    if sizes:
        unit = {"G": 1.0, "M": 2**-10, "K": 2**-20}
        used, limit = float(sizes[1]) * unit[sizes[2]], float(sizes[3]) * unit[sizes[4]]
        fitting = int(batch * limit / used) // devices * devices
        hint = f"it needs {used:.1f} GiB a device of {limit:.1f}; "
        hint += f"about {fitting} fit" if fitting else "take bfloat16 or a larger slice"
    return f"{field}={batch} does not fit: {hint}"


@contextlib.contextmanager
def _waiting(doing: str) -> Iterator[None]:
    """Shows the seconds that something takes, while it takes them."""
    from tqdm import tqdm

    done = threading.Event()
    with tqdm(desc=doing, bar_format="{desc}: {elapsed}", disable=None) as bar:

        def refresh() -> None:
            while not done.wait(1):
                bar.refresh()

        thread = threading.Thread(target=refresh, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def prepare() -> None:
    """Makes the process compile for TPUs that are not there; before JAX starts."""
    from ganseg_jax.studies import slices

    slices.leave_out_hosts()


if __name__ == "__main__":
    app.run(main, prepare)
