"""Runs `ganseg_jax.cli.published`; `--help` describes it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ganseg_jax.cli.published", run_name="__main__", alter_sys=True)
