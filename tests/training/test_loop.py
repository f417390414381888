"""The loop: what is written when, and that nothing is lost whatever cuts it off."""

import errno
import json
import logging
import os
import resource
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ganseg_jax.errors import Stopped, UserError
from ganseg_jax.files import read_rows
from ganseg_jax.training import loop
from ganseg_jax.training.writer import Writer
from tests.training.toy import add, add_but, numbers, run, stage


def total_after(count):
    """What the toy's sum is after so many numbers."""
    data = numbers()
    return sum(next(data) for _ in range(count))


def rows(workdir):
    return read_rows(workdir / "toy" / "metrics.jsonl")


def saved_steps(workdir):
    folders = (workdir / "toy" / "checkpoints").iterdir()
    return sorted(int(p.name) for p in folders if p.name.isdigit())


def test_run_trains_and_writes(tmp_path, capsys):
    state = run(stage(), tmp_path)
    assert state["total"] == total_after(6) and state["step"] == 6
    # Logged in every third step, and wherever the state is saved.
    assert [row["step"] for row in rows(tmp_path)] == [2, 3, 4, 6]
    data = numbers()
    means = [np.mean([next(data) for _ in range(n)]) for n in (2, 1, 1, 2)]
    np.testing.assert_allclose([row["batch"] for row in rows(tmp_path)], means, rtol=1e-5)
    assert all(row["steps_per_second"] > 0 for row in rows(tmp_path))
    assert saved_steps(tmp_path) == [4, 6]  # The newest two.
    samples = sorted((tmp_path / "toy" / "samples").iterdir())
    assert [p.name for p in samples] == ["samples_0000004.png", "samples_0000006.png"]
    assert np.asarray(Image.open(samples[0])).max() == 4
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[1] for line in lines if line.startswith("toy ")][-1] == "6/6"
    assert "left" in lines[-1] and "batch=" in lines[-1]


@pytest.mark.parametrize("cut", [2, 3, 5])
def test_resumed_run_is_the_uninterrupted_one(tmp_path, cut):
    def killed(state, scalars):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(stage(step=add_but(cut, killed)), tmp_path)
    state = run(stage(), tmp_path)
    assert state["total"] == total_after(6)
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] == 6


def test_longer_run_goes_on_from_a_shorter_one(tmp_path):
    run(stage(num_steps=5), tmp_path)
    assert run(stage(num_steps=9), tmp_path)["total"] == total_after(9)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_non_finite_scalar_is_named_with_its_step(tmp_path, value):
    def spoilt(state, scalars):
        return jax.tree.map(lambda x: x * value, state), scalars | {"batch": jnp.float32(value)}

    with pytest.raises(loop.NonFiniteError, match=rf"toy: batch is {value} at step 5;"):
        run(stage(step=add_but(5, spoilt)), tmp_path)
    assert saved_steps(tmp_path) == [2, 4]
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_non_finite_parameter_is_never_saved(tmp_path):
    def spoilt(state, scalars):
        return state | {"total": state["total"] * jnp.nan}, scalars

    with pytest.raises(loop.NonFiniteError, match="not finite at step 4; the checkpoint of step 2"):
        run(stage(step=add_but(4, spoilt)), tmp_path)
    assert saved_steps(tmp_path) == [2]
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_sigterm_saves_and_ends(tmp_path):
    def terminated(state, scalars):
        os.kill(os.getpid(), signal.SIGTERM)
        return state, scalars

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="asked to end; saved at step 3"):
        run(stage(step=add_but(3, terminated)), tmp_path)
    assert signal.getsignal(signal.SIGTERM) == handler
    assert saved_steps(tmp_path) == [2, 3]
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_sigterm_in_the_last_step_ends_the_run_before_the_next_stage(tmp_path):
    def terminated(state, scalars):
        os.kill(os.getpid(), signal.SIGTERM)
        return state, scalars

    with pytest.raises(Stopped, match="asked to end; saved at step 6") as stopped:
        run(stage(step=add_but(6, terminated)), tmp_path)
    assert stopped.value.code == 143
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_ctrl_c_says_from_where_the_run_resumes(tmp_path):
    def interrupted(state, scalars):
        raise KeyboardInterrupt

    message = "toy: interrupted at step 5; the same command resumes from step 4"
    with pytest.raises(Stopped, match=message) as stopped:
        run(stage(step=add_but(5, interrupted)), tmp_path)
    assert stopped.value.code == 130 and saved_steps(tmp_path) == [2, 4]
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_nothing_is_transferred_unseen(tmp_path):
    def careless(fold, state, batch):
        return add(fold, state, np.float32(1))

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        run(stage(step=careless), tmp_path)


def test_full_disk_while_logging_is_one_line(tmp_path, monkeypatch):
    def full(state, scalars):
        def fails(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Writer, "scalars", fails)
        return state, scalars

    with pytest.raises(UserError, match="cannot write to .*toy: No space left on device; the last"):
        run(stage(step=add_but(3, full)), tmp_path)
    monkeypatch.undo()
    assert saved_steps(tmp_path) == [2]
    assert run(stage(), tmp_path)["total"] == total_after(6)


def test_full_disk_while_saving_is_one_line(tmp_path):
    """A limit on the size of files stands for the full disk."""
    noise = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)  # 400 kB.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(state, scalars):
        while not saved_steps(tmp_path):  # Step 2 is still being saved.
            time.sleep(0.01)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        return state, scalars

    def large(**fields):
        return stage(noise=noise, **fields)

    message = r"cannot write a checkpoint to .*: File too large; the last complete one \(step 2\)"
    try:
        with pytest.raises(UserError, match=message):
            run(large(step=add_but(3, full)), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved_steps(tmp_path) == [2]
    state = run(large(), tmp_path)
    assert state["total"] == total_after(6)
    np.testing.assert_array_equal(state["noise"], noise)


def spoilt_at(steps):
    """Fields of a toy whose scalar is NaN at each step of `steps` with the folds up to its value.

    And the list of the folds that steps were taken with, one after the other.
    """

    def step(fold, state, batch):
        state, scalars = add(fold, state, batch)
        if folds_used[-1:] != [fold]:
            folds_used.append(fold)
        with jax.transfer_guard("allow"):
            if fold <= steps.get(int(state["step"]), -1):
                scalars |= {"batch": jnp.float32(jnp.nan)}
        return state, scalars

    folds_used = []
    return {"step": step, "retry": True}, folds_used


def retries(workdir):
    return json.loads((workdir / "toy" / "retries.json").read_text())


def test_retry_goes_back_with_another_fold_and_says_so(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("ganseg_jax"), "propagate", True)
    fields, folds = spoilt_at({1: 0, 5: 2})  # Before the first checkpoint, and twice later.
    state = run(stage(**fields), tmp_path)
    assert state["total"] == total_after(6) and state["step"] == 6
    assert retries(tmp_path) == [[0, 1], [4, 2], [4, 3]] and folds == [0, 1, 2, 3]
    steps = [row["step"] for row in rows(tmp_path)]
    assert steps == [2, 3, 4, 6] and saved_steps(tmp_path) == [4, 6]
    messages = [record.getMessage() for record in caplog.records]
    assert [m.split(" (")[0] for m in messages if "Going back" in m] == [
        "toy: batch is nan at step 1. Going back to step 0 with fold 1 of the key",
        "toy: batch is nan at step 5. Going back to step 4 with fold 2 of the key",
        "toy: batch is nan at step 5. Going back to step 4 with fold 3 of the key",
    ]


def test_retries_end_and_keep_the_checkpoints(tmp_path):
    fields, folds = spoilt_at({5: 99})
    message = r"batch is nan at step 5; .*\(with 3 other folds of the key too\)"
    for _ in range(2):  # A restart is no way around the limit.
        with pytest.raises(loop.NonFiniteError, match=message):
            run(stage(**fields), tmp_path)
    assert retries(tmp_path) == [[4, 1], [4, 2], [4, 3]] and folds == [0, 1, 2, 3]
    assert saved_steps(tmp_path) == [2, 4]


def test_run_cut_off_after_a_retry_goes_on_with_its_fold(tmp_path):
    fields, _ = spoilt_at({3: 0})
    run(stage(num_steps=4, **fields), tmp_path)
    fields, folds = spoilt_at({})
    fields["retry"] = False  # Whatever is to happen from now on.
    assert run(stage(**fields), tmp_path)["total"] == total_after(6)
    assert folds == [1]


def test_every_scalar_that_is_not_finite_is_named_losses_first(tmp_path):
    def spoilt(state, scalars):
        nan = jnp.float32(jnp.nan)
        return state, scalars | {"a_norm": nan, "generator": nan, "area": jnp.float32(jnp.inf)}

    message = "toy: area is inf, generator is nan, a_norm is nan at step 2;"
    with pytest.raises(loop.NonFiniteError, match=message):
        run(stage(step=add_but(2, spoilt)), tmp_path)
    assert saved_steps(tmp_path) == []


def test_sigterm_before_a_retry_is_not_forgotten(tmp_path):
    fields, _ = spoilt_at({5: 0})
    plain = fields["step"]

    def terminated(fold, state, batch):
        state, scalars = plain(fold, state, batch)
        with jax.transfer_guard("allow"):
            if state["step"] == 5:
                os.kill(os.getpid(), signal.SIGTERM)
        return state, scalars

    with pytest.raises(Stopped, match="saved at step 5"):
        run(stage(**fields | {"step": terminated}), tmp_path)
    assert retries(tmp_path) == [[4, 1]] and saved_steps(tmp_path) == [4, 5]
