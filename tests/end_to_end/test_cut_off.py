"""Training in processes of its own: killed, asked to end, and split over two processes."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.flatten_util
import numpy as np
import pytest

from ganseg_jax.config import file as config_file
from ganseg_jax.files import read_rows
from ganseg_jax.training import gan, partition, segmenter
from ganseg_jax.training.checkpoint import Checkpoints
from tests import one_stage

ROOT = pathlib.Path(__file__).parents[2]
STEPS = {"gan": 12, "segmenter": 12}
SLOW = pytest.mark.skipif(
    "GANSEG_SLOW_TESTS" not in os.environ,
    reason="takes minutes: GANSEG_SLOW_TESTS=1 pytest tests/end_to_end/test_cut_off.py",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory, puppets_dir):
    """A folder whose `data` holds 46 puppets."""
    folder = tmp_path_factory.mktemp("cut_off")
    (folder / "data").symlink_to(puppets_dir)
    return folder


def flags_of(base):
    """The flags of every training here, but for the workdir."""
    return [
        "--config=configs/tiny.py",
        *one_stage.flags(),
        f"--config.dataset.data_dir={base / 'data'}",
        *(f"--config.{name}.num_steps={count}" for name, count in STEPS.items()),
        *(f"--config.{name}.checkpoint_every=3" for name in STEPS),
        *(f"--config.{name}.log_every=1" for name in STEPS),
    ]


def environment(devices):
    """This process's, with another number of devices."""
    flags = [flag for flag in os.environ["XLA_FLAGS"].split() if "device_count" not in flag]
    flags.append(f"--xla_force_host_platform_device_count={devices}")
    return os.environ | {"XLA_FLAGS": " ".join(flags)}


def start(base, stage, workdir, *arguments, devices=1):
    """Starts the training of a stage in a process of its own."""
    command = [sys.executable, "-m", f"experiments.train_{stage}", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, *flags_of(base), *arguments],
        cwd=ROOT,
        env=environment(devices),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """Exit codes and error output; ends them all where one hangs."""
    try:
        outputs = [process.communicate(timeout=1500)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def train(base, stage, workdir, *arguments, devices=1):
    """Trains to the end."""
    (code,), (errors,) = finish(start(base, stage, workdir, *arguments, devices=devices))
    assert code == 0, errors
    return errors


def saved(stage, workdir, steps=12):
    """The newest state, which must be the last."""
    config = config_file.load_config(workdir)
    if stage == "gan":
        like = gan.init_state(gan.Gan.of(config), 0)
    else:
        like = segmenter.init_state(segmenter.Segmentation.of(config), 0)
    whole = partition.replicated(partition.make_mesh(jax.devices()[:1]))
    checkpoints = Checkpoints(workdir / stage / "checkpoints")
    step, state = checkpoints.restore(partition.place(like, whole))
    checkpoints.close()
    assert step == steps
    return jax.device_get(state)


def assert_same_run(stage, workdir, expected, steps=12):
    """Parameters, optimisers, statistics and every logged scalar are the same, bit for bit."""
    whole, resumed = (saved(stage, folder, steps) for folder in (expected, workdir))
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
    rows = [read_rows(folder / stage / "metrics.jsonl") for folder in (workdir, expected)]
    assert [row["step"] for row in rows[0]] == list(range(1, steps + 1))
    for row, other in zip(*rows, strict=True):
        changing = {"time", "steps_per_second"}
        changing |= {name for name in row | other if name.startswith("hardware/")}
        assert {k: v for k, v in row.items() if k not in changing} == {
            k: v for k, v in other.items() if k not in changing
        }


@pytest.fixture(scope="module")
def uninterrupted(base):
    """A workdir trained at one go, on one device."""
    workdir = base / "uninterrupted"
    for stage in STEPS:
        train(base, stage, workdir)
    return workdir


def cut_off(base, stage, workdir, signal_number):
    """Sends a signal as soon as there is a checkpoint; returns exit code and error output."""
    process = start(base, stage, workdir)
    while process.poll() is None and not list((workdir / stage / "checkpoints").glob("[0-9]")):
        time.sleep(0.01)
    process.send_signal(signal_number)
    (code,), (errors,) = finish(process)
    return code, errors


# The loop is the same for all stages: each signal meets one of them.
@pytest.mark.parametrize(
    ("stage", "how"), [("gan", signal.SIGKILL), ("segmenter", signal.SIGTERM)], ids=str
)
def test_run_cut_off_ends_as_the_uninterrupted_one(base, uninterrupted, stage, how):
    workdir = base / f"{stage}_{how.name}"
    if stage == "segmenter":
        workdir.mkdir()
        (workdir / "gan").symlink_to(uninterrupted / "gan")
    code, errors = cut_off(base, stage, workdir, how)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 143), errors
    if how == signal.SIGTERM:
        assert f"{stage}: asked to end; saved at step" in errors
        assert "error:" not in errors and "Traceback" not in errors
    assert f"{stage}: resuming from step" in train(base, stage, workdir)
    assert_same_run(stage, workdir, uninterrupted)


@pytest.mark.parametrize(
    ("kills", "steps"), [(2, 12), pytest.param(20, 160, marks=SLOW)], ids=["2", "20"]
)
def test_killed_at_random_moments_ends_as_the_uninterrupted_one(base, request, kills, steps):
    arguments = [f"--config.gan.num_steps={steps}"]
    if steps == STEPS["gan"]:
        uninterrupted = request.getfixturevalue("uninterrupted")
    else:
        uninterrupted = base / f"{steps}_steps"
        train(base, "gan", uninterrupted, *arguments)
    workdir = base / f"killed_{kills}_times"
    command = [sys.executable, "-m", "tests.end_to_end.killing", kills, max(2, steps // 20)]
    command += [workdir, *flags_of(base), *arguments]
    killing = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment(devices=1),
        stdout=subprocess.PIPE,
        text=True,
        timeout=3000,
    )
    assert killing.returncode == 0
    print(killing.stdout)
    assert any(int(step) for step in killing.stdout.partition("steps")[2].split())
    train(base, "gan", workdir, *arguments)
    assert_same_run("gan", workdir, uninterrupted, steps)


@pytest.mark.parametrize("counts", [(2, 1), pytest.param((4, 2, 1, 4), marks=SLOW)], ids=str)
def test_other_numbers_of_processes_resume_and_compute_what_one_does(base, uninterrupted, counts):
    """Each time on four devices in all, whose sums are taken in other orders than one device's."""
    on_four, workdir = base / "on_four_devices", base / f"{len(counts)}_numbers_of_processes"
    train(base, "gan", on_four, devices=4)
    for i, count in enumerate(counts, start=1):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        flags = [f"--config.gan.num_steps={12 * i // len(counts)}", f"--num_processes={count}"]
        joined = [[f"--coordinator_address={address}", f"--process_id={i}"] for i in range(count)]
        processes = [
            start(base, "gan", workdir, *flags, *(each if count > 1 else ()), devices=4 // count)
            for each in joined
        ]
        codes, errors = finish(*processes)
        assert codes == [0] * count, errors
        assert "steps/s" in errors[0] and not any("steps/s" in other for other in errors[1:])
    first = [read_rows(d / "gan" / "metrics.jsonl")[0] for d in (uninterrupted, workdir)]
    for name in ("generator", "discriminator", "gradient_penalty", "concentration", "area"):
        assert first[1][name] == pytest.approx(first[0][name], rel=2e-5, abs=1e-6), name
    together = saved("gan", workdir)
    # Processes add up in another order than the devices of one. Adam makes updates of full size
    # even out of gradients that are nearly zero, as some of this small generator's are.
    expected = saved("gan", on_four)
    for network, tolerance in (("generator", 2e-4), ("discriminator", 1e-5)):
        trees = (getattr(state, network) for state in (expected, together))
        a, b = (jax.flatten_util.ravel_pytree(tree)[0] for tree in trees)
        assert np.linalg.norm(a - b) < tolerance * np.linalg.norm(a), network
