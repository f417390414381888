"""Starts JAX for an entry point: the processes of a run, compiled programs kept, memory."""

import ctypes
import logging
import os

from absl import flags

from ganseg_jax import files, rules
from ganseg_jax.cli import processes

_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of the first process, for several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")
_CACHE = flags.DEFINE_string(
    "compilation_cache",
    os.environ.get("JAX_COMPILATION_CACHE_DIR")
    or os.path.join(
        os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "ganseg_jax", "xla"
    ),
    "Folder that keeps compiled programs from run to run; empty for none.",
)

SHARED = frozenset(flags.FLAGS)
"""The flags of every entry point, and those of libraries."""


def start(watched: bool = True) -> None:
    """Joins the processes and turns the compilation cache on; call before using JAX.

    Args:
      watched: see `processes.join`.

    Raises:
      UserError: only some of the three process flags are given, or the other processes cannot be
        joined.
    """
    use_fast_cpu_convolutions()
    import jax

    rules.settle()
    processes.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, watched)
    # Programs that CPUs take from the cache do not keep to one order of collectives.
    unordered = jax.process_count() > 1 and jax.default_backend() == "cpu"
    cache = None if unordered else cache_folder()
    jax.config.update("jax_compilation_cache_dir", cache)
    if cache and "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    if jax.process_index():
        logging.getLogger("ganseg_jax").setLevel(logging.ERROR)


def cache_folder() -> str | None:
    """Returns the folder of compiled programs, written out, or None for none.

    Raises:
      UserError: an environment variable in it is not set.
    """
    return files.expand(_CACHE.value or "") or None  # Its default is typed into variables.


def inference_needs_jax(place: str) -> bool:
    """Says whether segmenting with the model of a place takes JAX, or several processes do it.

    Packed models do without on a CPU (`loading.load_segmenter`).
    """
    from ganseg_jax import loading, packed, runtime

    if any(flag.value is not None for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)):
        return True
    if not runtime.is_installed() or not runtime.is_for_cpus() or processes.launcher(os.environ):
        return True
    found = packed.find(place)
    return found is None or loading.load_segmenter(found).engine != "onnxruntime"


def use_fast_cpu_convolutions() -> None:
    """Has XLA's CPU backend compute convolutions with Eigen; call before JAX makes a backend.

    The library that it takes by default is slower: the GAN's step of `configs/puppets.py` by a
    fifth on two AVX2 cores (experiments/results/speed). A choice in `XLA_FLAGS` is left alone.
    """
    import jaxlib

    given, flag = os.environ.get("XLA_FLAGS", ""), "--xla_cpu_experimental_ynn_fusion_type"
    # An older XLA does not know the value, and ends the process.
    known = tuple(map(int, jaxlib.__version__.split(".")[:2])) >= (0, 10)
    if known and flag not in given:
        os.environ["XLA_FLAGS"] = f"{given} {flag}=-individual_convolution".strip()


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory for what comes next; says whether it can.

    Each step asks for the same large blocks again. By default every one of them is given back to
    the system, which clears its pages before it hands them out again: up to a sixth of a small
    training's time (experiments/results/speed).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # Not glibc.
        return False
    trim_threshold, most_mapped = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h.
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(most_mapped, 0))
