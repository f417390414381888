"""What entry points set before they start."""

import os
import platform
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import pytest
from absl import flags

from ganseg_jax.cli import startup

FLAG = "--xla_cpu_experimental_ynn_fusion_type"


@pytest.mark.parametrize("given", ["", "--xla_backend_optimization_level=0"])
def test_fast_convolutions_are_added_to_the_flags_given(monkeypatch, given):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(jaxlib, "__version__", "0.10.2")
    startup.use_fast_cpu_convolutions()
    startup.use_fast_cpu_convolutions()
    added = f"{FLAG}=-individual_convolution"
    assert os.environ["XLA_FLAGS"].split() == [*given.split(), added]


@pytest.mark.parametrize(("given", "version"), [(f"{FLAG}=dot", "0.10.2"), ("", "0.9.1")])
def test_own_choice_and_older_versions_are_left_alone(monkeypatch, given, version):
    monkeypatch.setenv("XLA_FLAGS", given)
    monkeypatch.setattr(jaxlib, "__version__", version)
    startup.use_fast_cpu_convolutions()
    assert os.environ["XLA_FLAGS"] == given


def test_convolutions_are_no_library_fusions():
    def convolve(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    compiled = jax.jit(convolve).lower(jnp.ones((2, 16, 16, 8)), jnp.ones((3, 3, 8, 8))).compile()
    assert " convolution(" in compiled.as_text()
    assert "ynn" not in compiled.as_text()


def test_freed_memory_is_kept():
    code = """
import resource
from ganseg_jax.cli import startup

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * (1 << 26)  # 64 MiB, beyond what glibc keeps by itself.
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

by_default = faults()
kept = startup.keep_freed_memory()
faults()
print(kept, by_default, faults())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, by_default, then = done.stdout.split()
    assert kept == str(platform.libc_ver()[0] == "glibc")
    if kept == "True":
        assert int(then) < 0.1 * int(by_default)


@pytest.mark.parametrize(("given", "expected"), [("0.25", 0.25), (None, 0.5)])
def test_programs_are_kept_from_the_compile_time_given_on(monkeypatch, given, expected):
    name = "jax_persistent_cache_min_compile_time_secs"
    before = {key: getattr(jax.config, key) for key in (name, "jax_compilation_cache_dir")}
    monkeypatch.setattr(startup.processes, "join", lambda *_: None)
    monkeypatch.setattr(startup, "keep_freed_memory", lambda: True)
    monkeypatch.delenv(name.upper(), raising=False)
    if given:
        monkeypatch.setenv(name.upper(), given)
        jax.config.update(name, float(given))  # As JAX does when it is imported.
    flags.FLAGS.mark_as_parsed()
    try:
        startup.start()
        assert getattr(jax.config, name) == expected
    finally:
        flags.FLAGS.unparse_flags()
        for key, value in before.items():
            jax.config.update(key, value)
