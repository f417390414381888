"""Every test sees four CPU devices, so that nothing silently assumes one."""

import gc
import os
import pathlib

import jaxtyping
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
flags = os.environ.get("XLA_FLAGS", "")
if "xla_force_host_platform_device_count" not in flags:
    flags += " --xla_force_host_platform_device_count=4"
if "xla_backend_optimization_level" not in flags:
    # Tests compile much and compute little: code that is a third as fast in a quarter of the time.
    flags += " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    flags += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ["XLA_FLAGS"] = flags
# XLA's threads on CPUs: a device that waits for the others at a collective blocks one of them, and
# with as few threads as cores all of them may wait for each other.
os.environ.setdefault("NPROC", "32")

# What several tests, processes or runs compile is compiled once; every entry point takes it too.
compiled = pathlib.Path(__file__).parents[1] / ".pytest_cache" / "xla"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")
# Traces live for seconds: collected rarely, they are not looked through again and again.
gc.set_threshold(100_000, 50, 50)

import tests.typechecked  # noqa: E402

tests.typechecked.install()

from ganseg_jax.cli import startup  # noqa: E402  (it reads the lines above)

startup.use_fast_cpu_convolutions()  # As every entry point does.

pytest_plugins = ["tests.workdirs"]


@pytest.fixture
def unchecked():
    """Turns the checks of types off, for mistakes that the package answers itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def tpu_forms(monkeypatch):
    """Computes here what is meant for TPUs."""
    import jax

    def choose(*args, default, tpu=None, **others):
        return (tpu or default)(*args)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
