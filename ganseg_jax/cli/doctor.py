"""What was found on this machine, what is wrong with it, and the remedy of each problem.

python -m experiments.doctor [--workdir=W] [--config=configs/X.py]

Joins the other processes as every command does, so start it as you would start training (`srun`,
gcloud with --worker=all): it shows whether they find each other and can add up over all devices.
With --workdir it writes, reads and deletes a small file there; buckets (gs://) too. With --config
it checks that batches can be split over the devices and that the data set is there. Nothing takes
longer than its time limit. The exit code is 0 if nothing is wrong, else 1.
"""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from importlib import metadata
from typing import Any

from ganseg_jax.cli import app, config_flag, places, processes, startup

WORKDIR = places.define_workdir(required=False)
CONFIG = config_flag.define()

START_SECONDS = 360
"""Limit for JAX to join and start; `processes.JOIN_SECONDS` is within it."""

STORE_SECONDS = 60
"""Limit for a file to be written and read again."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "libtpu", "gcsfs")
PLUGINS = ("jax-cuda12-plugin", "jax-cuda13-plugin")

OLDEST_DRIVER = {"jax-cuda12-plugin": 525, "jax-cuda13-plugin": 580}
"""Major version of the NVIDIA driver that each plugin's CUDA needs."""


class Findings:
    """Collects facts and problems."""

    def __init__(self) -> None:
        self.facts: list[tuple[str, str]] = []
        self.problems: list[tuple[str, str]] = []

    def fact(self, name: str, value: object) -> None:
        """Adds what was found."""
        self.facts.append((name, str(value)))

    def problem(self, what: str, remedy: str) -> None:
        """Adds what is wrong, and what to do."""
        self.problems.append((what, remedy))

    def check(self, what: str, seconds: float, remedy: str, work: Callable[[], Any]) -> Any:
        """Returns what `work` does within a time limit; None, with a problem added, if it fails.

        Args:
          what: for the problem: "JAX cannot start".
          seconds: the limit.
          remedy: if the time is over.
          work: runs in a thread that does not keep the program alive.
        """
        from ganseg_jax.errors import UserError

        results: list[Any] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # Whatever libraries raise is a finding.
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if results:
            return results[0]
        if not errors:
            self.problem(f"{what}: no answer within {seconds:.0f} s", remedy)
            return None
        text = str(errors[0]).strip() or type(errors[0]).__name__
        # Mistakes that the package answers itself say what to do.
        remedy = remedy_of(text, "" if isinstance(errors[0], UserError) else remedy)
        if remedy:
            self.problem(f"{what} ({text.splitlines()[0][:300]})", remedy)
        else:
            self.problem(what, text)
        return None


def remedy_of(text: str, otherwise: str) -> str:
    """Returns what to do about an error's message, or `otherwise`."""
    known = {
        r"gcsfs": 'pip install "ganseg-jax[gcs]"',
        r"\b40[13]\b|[Ff]orbidden|[Aa]nonymous|[Cc]redential|PERMISSION|UNAUTHENTICATED": (
            "gcloud auth application-default login, or give the machine's service account the role "
            "storage.objectAdmin of the bucket (and TPU VMs --scopes=cloud-platform)"
        ),
        r"\b404\b|[Nn]ot ?[Ff]ound|does not exist": (
            "the bucket is not there: gcloud storage buckets create gs://NAME, or see to its name"
        ),
        r"already in use|libtpu_lockfile": "another program holds the TPU: end it",
        r"Read-only|Permission denied|No space": "free some space or choose another folder",
    }
    return next((remedy for sign, remedy in known.items() if re.search(sign, text)), otherwise)


def versions(found: Findings) -> None:
    """Finds Python's and the packages' versions, and those that do not fit together."""
    have = {}
    for name in (*PACKAGES, *PLUGINS):
        try:
            have[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    found.fact("python", sys.version.split()[0])
    found.fact("packages", ", ".join(f"{name} {version}" for name, version in have.items()))
    for name in ("jaxlib", *PLUGINS):
        if have.get(name, have["jax"]) != have["jax"]:
            found.problem(
                f"{name} {have[name]} does not belong to jax {have['jax']}",
                f'pip install -U "jax=={have["jax"]}" "{name}=={have["jax"]}"',
            )


def hardware(found: Findings) -> tuple[bool, bool]:
    """Finds chips, driver and memory; returns whether there are TPU chips and NVIDIA GPUs."""
    vendors = pathlib.Path("/sys/bus/pci/devices").glob("*/vendor")
    tpu = "0x1ae0" in {file.read_text().strip() for file in vendors}  # Google's.
    if tpu and not _installed("libtpu"):
        found.problem("TPU chips are here, but not libtpu", 'pip install "ganseg-jax[tpu]"')
    nvidia = os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidia0")
    if nvidia:
        _nvidia(found)
    free = re.search(r"MemAvailable:\s+(\d+)", _text("/proc/meminfo"))
    if free:
        gib = int(free[1]) / 2**20
        found.fact("free memory", f"{gib:.1f} GiB")
        if gib < 1:
            found.problem(f"only {gib:.1f} GiB of memory are free", "end other programs")
    return tpu, nvidia


def _nvidia(found: Findings) -> None:
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.used,memory.total"]
    output = found.check(
        "nvidia-smi fails", 20, "install NVIDIA's driver, or restart the machine",
        lambda: subprocess.run(
            [*query, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True
        ).stdout,
    )  # fmt: skip
    for number, line in enumerate((output or "").splitlines()):
        driver, used, total = (part.strip() for part in line.split(","))
        found.fact(f"GPU {number}", f"driver {driver}, {used} of {total} MiB used")
        for plugin, oldest in OLDEST_DRIVER.items():
            if _installed(plugin) and int(driver.split(".")[0]) < oldest:
                found.problem(
                    f"driver {driver} is too old for {plugin}", f"update it to {oldest} or later"
                )
        if used.isdigit() and total.isdigit() and int(used) > 0.5 * int(total):
            found.problem(
                f"another program uses {used} MiB of GPU {number}",
                "end it, or choose other GPUs with CUDA_VISIBLE_DEVICES",
            )


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _text(path: str) -> str:
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def devices(found: Findings, tpu: bool, nvidia: bool) -> None:
    """Finds processes, devices, their sum, how they round, and the compilation cache."""
    import jax

    kinds = sorted({device.device_kind for device in jax.devices()})
    found.fact("process", f"{jax.process_index()} of {jax.process_count()}")
    found.fact("devices", f"{jax.device_count()} x {', '.join(kinds)}")
    platform = jax.default_backend()
    found.fact("platform", platform)
    memory = jax.local_devices()[0].memory_stats() if platform != "cpu" else None
    if memory and "bytes_limit" in memory:
        found.fact("device memory", f"{memory['bytes_limit'] / 2**30:.1f} GiB each")
    if platform == "cpu" and (tpu or nvidia):
        kind, extra = ("TPU", "tpu") if tpu else ("NVIDIA GPU", "gpu")
        remedy = f'pip install "ganseg-jax[{extra}]"'
        if chosen := os.environ.get("JAX_PLATFORMS"):
            remedy = f"unset JAX_PLATFORMS, which is {chosen}"
        found.problem(f"a {kind} is here, but JAX computes on the CPU", remedy)
    total = found.check(
        "the devices cannot add up", 180,
        "see that all hosts reach each other on all ports, and that all processes run",
        sum_over_devices,
    )  # fmt: skip
    if total is not None and total != jax.device_count():
        found.problem(f"{jax.device_count()} ones over all devices add up to {total}",
                      "hardware or driver compute wrongly: leave this machine out")  # fmt: skip
    found.fact("float32 products", rounding())
    cache = jax.config.values["jax_compilation_cache_dir"]
    found.fact("compilation cache", cache or "none")
    if cache and "://" not in cache:
        found.check(
            f"the compilation cache {cache} cannot be written", STORE_SECONDS,
            "choose another folder with --compilation_cache", lambda: write_and_read(cache),
        )  # fmt: skip


def sum_over_devices() -> float:
    """Returns the sum of a one from each device of all processes."""
    import jax
    import numpy as np

    from ganseg_jax.training import partition

    mesh = partition.make_mesh()
    ones = partition.global_batch(np.ones(jax.local_device_count(), np.float32), mesh)
    add = jax.jit(lambda x: x.sum(), out_shardings=partition.replicated(mesh))
    return float(np.asarray(add(ones).addressable_data(0)))


def rounding() -> str:
    """Measures how the factors of a float32 product are rounded where nothing is said."""
    import jax.numpy as jnp
    import numpy as np

    def kept(bits: int) -> bool:
        value = np.float32(1 + 2.0**-bits)
        product = jnp.full((128, 128), value) @ jnp.eye(128, dtype=jnp.float32)
        return bool(np.asarray(product)[0, 0] == value)

    kind = "exact" if kept(20) else "rounded to TF32" if kept(10) else "rounded to bfloat16"
    if kind == "exact":
        return kind
    return f"{kind} in training unless --config.precision=highest; exact in evaluation"


def write_and_read(folder: Any) -> float:
    """Writes a small file in a folder, reads and deletes it; returns the seconds that it took.

    Raises:
      Exception: whatever the storage raises.
    """
    from ganseg_jax import files

    start = time.perf_counter()
    path = files.resolve(folder) / f"doctor-{uuid.uuid4().hex}.txt"
    files.write_whole(path, "doctor")
    try:
        if path.read_text() != "doctor":
            raise OSError("what was written is not what is read")
    finally:
        path.unlink()
    return time.perf_counter() - start


def storage(found: Findings, workdir: str) -> None:
    """Checks that a workdir can be written to, and its room."""
    from ganseg_jax import files

    remote = files.is_remote(workdir)
    seconds = found.check(
        f"{workdir} cannot be written", STORE_SECONDS,
        "see whether this machine reaches storage.googleapis.com (network, proxy, private access)"
        if remote else "the file system does not answer: choose another folder",
        lambda: write_and_read(workdir),
    )  # fmt: skip
    if seconds is not None:
        found.fact("workdir", f"{workdir}, a file written and read in {seconds:.1f} s")
    if remote or not os.path.isdir(files.resolve(workdir)):
        return
    free = shutil.disk_usage(files.resolve(workdir)).free / 2**30
    found.fact("free in the workdir", f"{free:.1f} GiB")
    if free < 1:
        found.problem(f"only {free:.1f} GiB are free in {workdir}", "free some space")


def config(found: Findings) -> None:
    """Checks that a config's batches can be split and that its data set is on this host."""
    from ganseg_jax.config.setting import flat
    from ganseg_jax.data import pipeline
    from ganseg_jax.training import partition

    chosen = CONFIG.value
    for field in ("gan.batch_size", "segmenter.batch_size"):
        size = flat(chosen)[field]
        check = functools.partial(partition.check_batch_size, field, size, partition.make_mesh())
        found.check(f"{field}={size} does not fit", 60, "", check)
    dataset = chosen.dataset
    sizes = found.check(
        "the data set is not on this host", 60, f"{dataset.data_dir} does not answer",
        lambda: pipeline.split_sizes(dataset.name, dataset.data_dir),
    )  # fmt: skip
    if sizes is not None:
        found.fact("data set", f"{dataset.name}: {sizes}")


def begin() -> bool:
    """Joins the processes and starts JAX."""
    startup.start(watched=False)
    return True


def main() -> None:
    """Prints facts and problems; ends the program with 1 if there are problems."""
    found = Findings()
    versions(found)
    tpu, nvidia = hardware(found)
    if (workdir := WORKDIR.value) is not None:
        storage(found, workdir)
        found.fact("workdir", workdir)
    startup.use_fast_cpu_convolutions()
    started = found.check(
        "JAX cannot start", START_SECONDS,
        "is another program using the accelerator, or are other processes missing?",
        begin,
    )  # fmt: skip
    if started:
        devices(found, tpu, nvidia)
        if CONFIG.optional is not None:
            config(found)
    report(found)
    sys.stdout.flush()
    if started:
        processes.part(30)
    if found.problems:
        os._exit(1)  # Threads that got no answer must not keep the process alive.


def report(found: Findings) -> None:
    """Prints what was found; of processes other than the first, only problems."""
    where = dict(found.facts).get("process", "0")
    first = where.startswith("0")
    if first:
        for name, value in found.facts:
            print(f"{name:<20} {value}")
    prefix = "" if where in ("0", "0 of 1") else f"process {where}: "
    for what, remedy in found.problems:
        print(f"{prefix}PROBLEM: {what}. Remedy: {remedy}")
    if not found.problems and first:
        print("Nothing is wrong.")


if __name__ == "__main__":
    app.run(main, uses_jax=False)
