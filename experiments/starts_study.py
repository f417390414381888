"""Runs `ganseg_jax.cli.starts_study`; `--help` describes it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ganseg_jax.cli.starts_study", run_name="__main__", alter_sys=True)
