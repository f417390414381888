"""Which process trains, so that another one can tell whether it lives, and ask it to end."""

import os
import platform
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from etils import epath

from ganseg_jax import files


def facts() -> dict[str, Any]:
    """Returns what tells this process from all others: `pid`, `node`, `born`; and its folder."""
    return {
        "pid": os.getpid(),
        "node": platform.node(),
        "born": born(os.getpid()),
        "cwd": os.getcwd(),
    }


def born(pid: int) -> str | None:
    """Returns when a process began, in the system's own words; None if it is not known.

    A number that was another process's before differs in this.
    """
    try:
        # Behind the name, which may hold anything: state, ..., start time as the 20th.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return None


def lives(recorded: Any) -> bool:
    """Says whether the process that `facts` described still runs on this machine."""
    if not is_of_this_machine(recorded):
        return False
    pid, time = recorded.get("pid"), recorded.get("born")
    return type(pid) is int and pid > 1 and time is not None and born(pid) == time


def newest(workdir: epath.Path, stages: Iterable[str]) -> Any:
    """Returns what `facts` said of the process that trained one of a workdir's stages last."""
    found: tuple[str, Any] = ("", None)
    for stage in stages:
        rows = files.read_rows(workdir / stage / "starts.jsonl")
        if rows and rows[-1].get("process") and str(rows[-1].get("time")) >= found[0]:
            found = str(rows[-1].get("time")), rows[-1]["process"]
    return found[1]


def is_of_this_machine(recorded: Any) -> bool:
    """Says whether `facts` described a process of this machine."""
    return isinstance(recorded, dict) and recorded.get("node") == platform.node()


def ask_to_end(recorded: Any) -> bool:
    """Sends SIGTERM to the process if it lives and is this user's; says whether that was done."""
    if not lives(recorded):
        return False
    try:
        os.kill(recorded["pid"], signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True
