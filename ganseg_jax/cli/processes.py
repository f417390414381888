"""Joins the processes of one run, and ends this one if another has ended.

JAX itself finds the others (`jax.distributed`): on Cloud TPU VMs and GKE, under `srun`, `mpirun`
and in Kubernetes' indexed jobs. Here is what it leaves open: whether there are others at all, which
devices each process takes, and what a person reads if one of them ends.
"""

import contextlib
import ctypes
import importlib.util
import logging
import mmap
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from ganseg_jax.errors import UserError

LOG = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 40
"""A process that has been silent for so long counts as ended, and all others end too."""

JOIN_SECONDS = 300
"""Processes may start at different times; this is how long the first waits for the last."""

LOST = 1
"""Exit code of a process that ended because another did."""

_ALONE = "--num_processes=1 to run alone"

_OPEN_MPI, _SLURM, _GKE = "Open MPI", "SLURM", "GKE"
_TPU_VM, _KUBERNETES = "Cloud TPU VM", "Kubernetes"

_REMEDIES = {
    _OPEN_MPI: "Open MPI 5 no longer says where the others are: pip install mpi4py",
    _SLURM: "start tasks with srun",
    _GKE: 'is libtpu installed? pip install "ganseg-jax[tpu]"',
    _KUBERNETES: "pip install kubernetes, and let the pod's service account read pods, jobs and "
    "services",
}
"""What each launcher needs for JAX to find the others."""

_SIGNS = (
    r"\bGloo\b|\bNCCL\b|heartbeat|Socket closed|[Cc]oordination ?[Ss]ervice|DEADLINE_EXCEEDED"
    r"|UNAVAILABLE|Connection (closed|reset)|BARRIER|[Bb]arrier (failed|timed out)"
)
"""What errors that follow from the end of another process say."""


def launcher(variables: Mapping[str, str]) -> str | None:
    """Names what started this process beside others, None if nothing did.

    Args:
      variables: of the environment, after `import jax`: it sets TPU_ML_PLATFORM on a host with TPU
        chips. On a Cloud TPU VM, only the metadata server knows whether there are other hosts.
    """
    if _number(variables, "OMPI_COMM_WORLD_SIZE") > 1:
        return _OPEN_MPI
    # Only srun starts tasks, and only it sets these. A batch script or a shell of salloc has
    # SLURM_NTASKS too; where that shell is a step of its own, SLURM_STEP_NUM_TASKS is 1.
    step = {"SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"}
    tasks = _number(variables, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if step <= variables.keys() and tasks > 1:
        return _SLURM
    listed = variables.get("TPU_PROCESS_ADDRESSES") or variables.get("TPU_WORKER_HOSTNAMES")
    if listed:
        several = "," in listed or _number(variables, "MEGASCALE_NUM_SLICES") > 1
        return _GKE if several else None
    if variables.get("TPU_ML_PLATFORM") == "JAX" and "TPU_SKIP_MDS_QUERY" not in variables:
        return _TPU_VM
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= variables.keys():
        return _KUBERNETES
    return None


def _number(variables: Mapping[str, str], *names: str) -> int:
    """Returns the first of these variables that is there and a number, else 1."""
    given = (variables.get(name, "") for name in names)
    return next((int(value) for value in given if value.isdigit()), 1)


def device_choice(variables: Mapping[str, str]) -> list[int] | None:
    """Returns the `local_device_ids` of `jax.distributed.initialize`.

    Under SLURM and Open MPI JAX gives each process one GPU, its n-th. That is wrong for a process
    that has the host to itself, and for one that sees none but its own GPUs: these take all they
    see (an empty list). None leaves the choice to JAX.
    """
    if "JAX_LOCAL_DEVICE_IDS" in variables:
        return None
    on_host = _number(variables, "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
    if "SLURM_STEP_TASKS_PER_NODE" in variables and "OMPI_COMM_WORLD_LOCAL_SIZE" not in variables:
        # Such as "2(x3),1": the largest number of tasks on a host.
        counts = re.findall(r"(\d+)(?:\(x\d+\))?", variables["SLURM_STEP_TASKS_PER_NODE"])
        on_host = max((int(count) for count in counts), default=1)
    own = any(name in variables for name in ("SLURM_GPUS_PER_TASK", "SLURM_TRES_PER_TASK"))
    return None if on_host > 1 and not own else []


def join(address: str | None, number: int | None, index: int | None, watched: bool = True) -> None:
    """Joins the other processes of this run, if there are any; call before JAX makes a backend.

    Args:
      address: host:port of the first process; None for it and the next two lets JAX find them.
      number: of processes; 1 alone runs alone, whatever is around.
      index: of this process, from 0.
      watched: have a parent process name the reason if this one is aborted; see `_watch`.

    Raises:
      UserError: only some of the three are given, or the other processes cannot be joined.
    """
    given = [address, number, index]
    if given == [None, 1, None]:
        return
    found = None
    if any(value is not None for value in given):
        if any(value is None for value in given):
            raise UserError(
                "--coordinator_address, --num_processes and --process_id belong together: "
                f"give all three or none, or {_ALONE}"
            )
    elif (found := launcher(os.environ)) is None:
        return
    joined = _watch() if watched else lambda: None
    _initialize(address, number, index, found)
    joined()


def _initialize(address: str | None, number: int | None, index: int | None, found: Any) -> None:
    import jax

    # For processes without an accelerator; the others do not look at it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    method = None
    if found == _OPEN_MPI and "OMPI_MCA_orte_hnp_uri" not in os.environ:
        method = "mpi4py" if importlib.util.find_spec("mpi4py") else None
    try:
        jax.distributed.initialize(
            address,
            number,
            index,
            device_choice(os.environ),
            cluster_detection_method=method,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    # JAX's errors are RuntimeErrors; modules of clusters raise what their libraries do.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        undetected = "coordinator_address should be defined" in reason
        if undetected and found == _TPU_VM:
            LOG.info("No other hosts of this TPU are known: this process runs alone.")
            return
        if "Failed to start RPC server" in reason:
            raise UserError(
                "this process cannot listen for the others: another program, maybe an earlier run, "
                f"has the port{f' of {address}' if address else ''}: end it, or choose another "
                "port (JAX_COORDINATOR_PORT, or --coordinator_address)"
            ) from error
        known = f"{found} says that there are" if found else "there are to be"
        reason = "JAX does not find them" if undetected else reason
        hint = f"{_REMEDIES[found]}; or " if found in _REMEDIES else ""
        raise UserError(
            f"{known} other processes, but they cannot be joined ({reason}): {hint}say where they "
            f"are with --coordinator_address, --num_processes and --process_id, or {_ALONE}"
        ) from error
    # JAX notes SIGTERM and goes on; training has its own way, and all else is to end.
    with contextlib.suppress(ValueError):  # Only the main thread may.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def finish() -> None:
    """Waits until all processes are done: JAX ends those that others keep waiting for minutes."""
    if several():
        from ganseg_jax.training import partition

        partition.wait_for_all("finished")


def part(seconds: float = 5) -> None:
    """Takes leave of the others before this process ends early, if they do so too.

    Otherwise the first to end, with the same message as all, would have JAX abort the others.

    Args:
      seconds: to wait for them.
    """
    if not several():
        return
    import jax

    from ganseg_jax.training import partition

    with contextlib.suppress(Exception):  # They have not come, or have ended.
        partition.wait_for_all("parting", hours=seconds / 3600)
        jax.distributed.shutdown()


def is_first() -> bool:
    """Says whether this process writes the results: the first of several, or one without JAX."""
    if "jax" not in sys.modules:
        return True
    import jax

    return jax.process_index() == 0


def several() -> bool:
    """Says whether this process has joined others."""
    jax = sys.modules.get("jax")
    return jax is not None and bool(jax.distributed.is_initialized()) and jax.process_count() > 1


def loss(error: Exception) -> str | None:
    """Returns one line about an error that the end of another process explains, else None."""
    text = str(error)
    if not several() or isinstance(error, UserError) or not re.search(_SIGNS, text):
        return None
    import jax

    reason = next((line for line in text.splitlines() if re.search(_SIGNS, line)), "")
    return _lost(f"process {jax.process_index()} of {jax.process_count()}", f" ({reason[:200]})")


def _lost(who: str, reason: str = "") -> str:
    return (
        f"{who} lost another process{reason}: that one's own output says why it ended. Start all "
        "processes again with the same command; training resumes from its newest checkpoint"
    )


def _watch() -> Callable[[], None]:
    """Continues in a child process; the parent waits for it and says why it ended.

    If another process ends, JAX aborts this one from within, below Python, with pages of C++
    addresses. The parent adds the one line that helps. It passes signals on.

    Returns:
      What to call once the processes are joined.
    """
    joined = mmap.mmap(-1, 1)  # Shared with the child.
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if not child:
        _end_with_parent(parent)
        return lambda: joined.write_byte(1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: _send(child, number))
    # The terminal sends it to the child as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        os._exit(os.WEXITSTATUS(status))
    message, code = _ending(os.WTERMSIG(status), bool(joined[0]))
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(code)


def _send(process: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def _end_with_parent(parent: int) -> None:
    """Has the system end this process if its parent is killed."""
    kill_me_too = 1  # PR_SET_PDEATHSIG of prctl.h.
    with contextlib.suppress(AttributeError, OSError):  # Not Linux.
        ctypes.CDLL(None).prctl(kill_me_too, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(LOST)


def _ending(number: int, joined: bool) -> tuple[str, int]:
    """Returns a line about a process that a signal has ended, and its exit code."""
    name = signal.Signals(number).name
    if number == signal.SIGABRT and not joined:
        return (
            f"not all processes were there within {JOIN_SECONDS} s: start all of them at about the "
            f"same time, see that each can reach the first one, or give {_ALONE}",
            LOST,
        )
    if number == signal.SIGABRT:
        return _lost("this process"), LOST
    if number == signal.SIGKILL:
        return "this process was killed: if nobody did it, the host's memory was too small", 137
    return f"this process was ended by {name}", 128 + number
