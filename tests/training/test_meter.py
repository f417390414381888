"""What the time of a training went to, against cases computed by hand."""

import functools
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ganseg_jax import chips
from ganseg_jax.files import read_rows
from ganseg_jax.training import gan, loop, work
from ganseg_jax.training.meter import REASONS, Meter
from ganseg_jax.training.work import Work
from tests.tiny_config import config_with
from tests.training.toy import add_but, run, stage


class Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Update:
    """Stands for an update's results, which are there at a given time."""

    def __init__(self, clock, end):
        self.clock, self.end, self.seen = clock, end, threading.Event()

    def block_until_ready(self):
        self.clock.now = self.end
        self.seen.set()


@pytest.fixture
def clock():
    return Clock()


def begin(clock, **given):
    given = {"step": 0, "batch_size": 8, "memory": lambda: [{}]} | given
    return Meter(clock=clock, **given)


def spend(meter, clock, reason, start, end):
    """The host does something from `start` to `end`."""
    clock.now = start
    with meter.doing(reason):
        clock.now = end


def update(meter, clock, end):
    """An update is started, and ends at `end`."""
    results = Update(clock, end)
    meter.started(results)
    assert results.seen.wait(10)
    meter._waiting.join()


def row(meter, clock, step, now):
    clock.now = now
    return {name.removeprefix("hardware/"): value for name, value in meter.row(step).items()}


def test_time_is_lost_only_while_the_devices_have_nothing_to_do(clock):
    meter = begin(clock, compile_seconds=30.0)
    spend(meter, clock, "data", 0, 2)  # Nothing runs yet: 2 s lost.
    update(meter, clock, end=7)
    spend(meter, clock, "data", 3, 6)  # The update runs until 7: nothing lost.
    update(meter, clock, end=12)
    spend(meter, clock, "data", 8, 16)  # It ended at 12: 4 s lost.
    update(meter, clock, end=20)
    first = row(meter, clock, 3, 20)
    lost = {"data": 6, "checkpoints": 0, "logging": 0, "compilation": 30}
    assert {name: first[f"lost_to_{name}"] for name in REASONS} == lost
    assert first["seconds"] == 50 and first["step_ms"] == pytest.approx(1e3 * 14 / 3)
    assert first["images_per_second"] == pytest.approx(3 * 8 / 20)
    # What follows a row is lost in the next one; compilation is in the first alone.
    spend(meter, clock, "logging", 20, 21)
    spend(meter, clock, "checkpoints", 21, 24)
    update(meter, clock, end=30)
    second = row(meter, clock, 4, 30)
    lost = {"data": 0, "checkpoints": 3, "logging": 1, "compilation": 0}
    assert {name: second[f"lost_to_{name}"] for name in REASONS} == lost
    assert second["seconds"] == 10 and second["step_ms"] == 6000
    meter.close()


def test_memory_is_that_of_the_fullest_device(clock):
    stats = [{"bytes_in_use": 3, "peak_bytes_in_use": 5}, {"bytes_in_use": 4}]
    known = begin(clock, memory=lambda: stats)
    unknown = begin(clock, batch_size=None)
    for each in (known, unknown):
        update(each, clock, end=1)
    found = row(known, clock, 1, 1)
    assert (found["memory_bytes"], found["memory_peak_bytes"]) == (4, 5)
    names = {"seconds", "step_ms"} | {f"lost_to_{name}" for name in REASONS}
    assert set(row(unknown, clock, 1, 1)) == names


def test_failed_update_leaves_the_report_of_it_to_the_loop(clock):
    class Failed:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    meter = begin(clock)
    meter.started(Failed())
    assert row(meter, clock, 1, 2)["seconds"] == 2


@pytest.mark.parametrize(
    ("first", "last", "rare"), [(0, 1, 1), (0, 4, 1), (1, 4, 0), (1, 5, 1), (4, 13, 3)]
)
def test_each_update_is_counted_by_the_branch_that_it_takes(first, last, rare):
    counted = Work(usual=10.0, rare=100.0, interval=4, peak=1000.0)
    flops = 100 * rare + 10 * (last - first - rare)
    assert counted.utilization(first, last, seconds=2.0) == pytest.approx(flops / 2 / 1000)


def traced(step):
    found = jax.jit(step).trace(jnp.int32(0), jnp.zeros((16, 16)))
    lowered = found.lower()
    return found, lowered, lowered.compile()


PRODUCT = 2 * 16**3


def cond_step(number, x):
    """One product in each update, two more in every fourth."""
    rare = jax.lax.cond(number % 4 == 0, lambda a: a @ a @ a, jnp.zeros_like, x)
    return jax.jit(lambda a: a @ a)(x) + rare


def test_operations_of_branches_are_counted_apart(monkeypatch):
    monkeypatch.setattr(chips, "peak_flops", lambda kind: 1e6)
    found = work.work_of(*traced(cond_step), devices=2, interval=4, kind="device")
    np.testing.assert_allclose([found.usual, found.rare], [PRODUCT, 3 * PRODUCT], rtol=0.05)
    assert found.rare - found.usual == 2 * PRODUCT
    assert found.peak == 2e6 and found.interval == 4
    # If each update takes the dearest branch there is nothing to tell apart.
    always = work.work_of(*traced(cond_step), devices=1, interval=1, kind="device")
    assert always.usual == always.rare == found.rare


def test_compiled_count_is_taken_if_the_backend_has_no_other(monkeypatch):
    monkeypatch.setattr(chips, "peak_flops", lambda kind: 1e6)
    monkeypatch.setattr(work, "flops", lambda lowered: None)
    program, lowered, _ = traced(cond_step)

    class Compiled:
        def cost_analysis(self):
            return {"flops": 3.0 * PRODUCT}

    class Silent:
        def cost_analysis(self):
            return None

    found = work.work_of(program, lowered, Compiled(), devices=4, interval=4, kind="device")
    assert (found.usual, found.rare) == (10 * PRODUCT, 12 * PRODUCT)
    assert work.work_of(program, lowered, Silent(), devices=4, interval=4, kind="device") is None


def test_unknown_device_has_no_utilization_and_is_said_once(monkeypatch):
    said = []
    monkeypatch.setattr(work, "_SAID", set())
    monkeypatch.setattr(work.LOG, "info", said.append)
    for kind in ("cpu", "Abacus", "Abacus"):
        assert work.work_of(None, None, None, devices=1, interval=1, kind=kind) is None
    assert said == ["Model FLOPs utilisation is left out: 'Abacus' has no known peak rate."]


def test_peak_rates_are_those_of_the_one_table():
    assert chips.peak_flops("TPU v5 lite") == chips.CHIPS["TPU v5 lite"].flops == 197e12
    assert chips.peak_flops("TPU v4") == 275e12  # Two cores are one device there.
    assert chips.peak_flops("NVIDIA H100 80GB HBM3") == 989.4e12
    assert chips.peak_flops("cpu") is None


def test_gan_says_which_updates_are_rare():
    config = config_with(gan__gradient_penalty__interval=16)
    assert gan.outline(config).rare_every == 16


def test_rows_of_a_resumed_run_do_not_count_the_pause(tmp_path, monkeypatch):
    def killed(state, scalars):
        raise RuntimeError("killed")

    ticking = Clock()

    def clock():
        ticking.now += 0.001  # Each look at the clock takes a millisecond.
        return ticking.now

    monkeypatch.setattr(loop, "Meter", functools.partial(Meter, clock=clock))
    with pytest.raises(RuntimeError, match="killed"):
        run(stage(step=add_but(5, killed)), tmp_path)
    ticking.now += 3600
    run(stage(), tmp_path)
    rows = read_rows(tmp_path / "toy" / "metrics.jsonl")
    assert [r["step"] for r in rows] == [2, 3, 4, 6]
    seconds = [r["hardware/seconds"] for r in rows]
    assert all(0 < s < 1 for s in seconds)
    for r, s in zip(rows, seconds, strict=True):
        assert 0 <= sum(r[f"hardware/lost_to_{name}"] for name in REASONS) <= s
