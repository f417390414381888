"""Runs `ganseg_jax.studies.torch_gan`; `--help` describes it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ganseg_jax.studies.torch_gan", run_name="__main__", alter_sys=True)
