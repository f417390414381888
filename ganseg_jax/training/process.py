"""Which process trains, so that another one can tell whether it lives, and ask it to end."""

import os
import platform
import signal
from pathlib import Path
from typing import Any


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
    if not isinstance(recorded, dict) or recorded.get("node") != platform.node():
        return False
    pid, time = recorded.get("pid"), recorded.get("born")
    return type(pid) is int and pid > 1 and time is not None and born(pid) == time


def ask_to_end(recorded: Any) -> bool:
    """Sends SIGTERM to the process if it lives and is this user's; says whether that was done."""
    if not lives(recorded):
        return False
    try:
        os.kill(recorded["pid"], signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        return False
    return True
