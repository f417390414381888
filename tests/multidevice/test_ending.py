"""One process of two is asked to end or dies; the other ends too, and the run resumes."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def start(workdir, count, steps):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    flags = [[f"--coordinator_address={address}", f"--process_id={i}"] for i in range(count)]
    command = [sys.executable, "-m", "tests.multidevice.counting", str(workdir), str(steps)]
    environment = os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    return [
        subprocess.Popen(
            [*command, f"--num_processes={count}", *(each if count > 1 else ())],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in flags
    ]


def saved(workdir):
    folder = workdir / "counting" / "checkpoints"
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def cut_off(workdir, number, signal_number):
    """Sends a signal to one of two processes once they have saved; returns how both ended."""
    before = saved(workdir)
    processes = start(workdir, 2, 10000)
    try:
        deadline = time.monotonic() + 120
        while saved(workdir) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        processes[number].send_signal(signal_number)
        outputs = [process.communicate(timeout=60) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("ending")


def test_one_asked_to_end_has_all_save_the_same_step(workdir):
    codes, outputs = cut_off(workdir, 1, signal.SIGTERM)
    assert codes == [143, 143], outputs
    steps = {re.search(r"asked to end; saved at step (\d+)", errors)[1] for _, errors in outputs}
    assert steps == {str(saved(workdir)[-1])}


@pytest.mark.parametrize("number", [0, 1], ids=["the first dies", "another dies"])
def test_one_that_dies_ends_the_others_with_a_line_and_the_run_resumes(workdir, number):
    before = saved(workdir)[-1]
    codes, outputs = cut_off(workdir, number, signal.SIGKILL)
    assert codes[1 - number] == 1, outputs
    lines = outputs[1 - number][1].splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert "lost another process" in line and "newest checkpoint" in line
    for out, _ in outputs:
        assert f"from {before}" in out


def test_the_rest_is_done_by_one_process(workdir):
    last = saved(workdir)[-1]
    (process,) = start(workdir, 1, last + 1)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    # Two devices add 2 a step, one adds 1.
    assert out.split("\n")[:2] == [f"from {last}", f"total {float(2 * last + 1)}"]
