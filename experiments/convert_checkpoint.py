"""Runs `ganseg_jax.cli.convert_checkpoint`; `--help` describes it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("ganseg_jax.cli.convert_checkpoint", run_name="__main__", alter_sys=True)
