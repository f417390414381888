"""Where a run comes from: command, machine, software, commit."""

import datetime
import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from ganseg_jax.training import process

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def facts() -> dict[str, Any]:
    """Returns what somebody who wants to repeat this process's work has to know, fit for JSON.

    Returns:
      `time` (ISO 8601 with the zone), `command`; JAX's `device`, `num_devices`, `num_processes`;
      `host` (the processor, and how many of its cores this process may use), `python`, `packages`
      (name to version), `commit` of this code, None if it is not known, and `process` (see
      `training.process.facts`).
    """
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "host": f"{processor()}, {usable_cores()} of its cores",
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit(Path(__file__).parents[2]),
        "process": process.facts(),
    }


def processor() -> str:
    """Returns the processor's name, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """Returns how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit(folder: Path) -> str | None:
    """Returns the commit that `folder` has checked out, with "-dirty" if tracked files differ.

    None if `folder` is not the top of a Git checkout, such as an installed package's (which may
    lie inside somebody else's), or Git is not there.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.SubprocessError):
        return None
