"""Checkpoints: whole or not at all, and every mismatch named."""

import hashlib
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from ganseg_jax import checkpoints
from ganseg_jax.errors import UserError
from ganseg_jax.training import partition
from ganseg_jax.training.checkpoint import Checkpoints
from tests.training.toy import numbers, run, stage

STATE = {"net": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": np.int32(4)}


def saved(folder, steps=(2, 4)):
    """A folder with checkpoints of `STATE` plus the step, and the data position."""
    writer, data = Checkpoints(folder), numbers()
    for step in steps:
        next(data)
        writer.save(step, jax.device_put(shifted(step)), data)
    writer.close()
    return folder


def shifted(step):
    return jax.tree.map(lambda x: np.asarray(x + step, x.dtype), STATE)


def restored(folder, like=STATE, data=None):
    writer = Checkpoints(folder)
    try:
        return writer.restore(jax.tree.map(jnp.asarray, like), data)
    finally:
        writer.close()


def damage(folder, how="zeros"):
    """What a failing disk or a copy cut off would leave."""
    if how.endswith("position"):
        (position,) = (folder / "data").glob("*.json")
        text = position.read_text()
        # A position just as possible, but another one: only the checksum tells.
        position.write_text("" if how == "no position" else text.replace("2", "3"))
        assert position.read_text() != text
        return
    for path in (folder / "state").rglob("*"):
        if path.is_file() and not path.name.startswith("_"):  # Names and shapes stay readable.
            size = path.stat().st_size
            path.write_bytes(b"\0" * size if how == "zeros" else path.read_bytes()[: size // 2])


def test_newest_state_and_data_position_come_back(tmp_path):
    saved(tmp_path / "c")
    data, expected = numbers(), [next(n) for n in [numbers()] for _ in range(3)]
    step, state = restored(tmp_path / "c", data=data)
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, state, shifted(4))
    assert next(data) == expected[2]


def test_nothing_saved_is_none(tmp_path):
    assert restored(tmp_path / "c") is None


def test_checkpoint_cut_off_while_written_is_ignored(tmp_path):
    """Orbax writes into a folder with a name of its own and renames it at the end."""
    saved(tmp_path / "c")
    partial = tmp_path / "c" / "6.orbax-checkpoint-tmp-1"
    shutil.copytree(tmp_path / "c" / "4", partial)
    damage(partial)
    step, state = restored(tmp_path / "c")
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, state, shifted(4))


@pytest.mark.parametrize("how", ["zeros", "halves", "no position", "another position"])
def test_corrupt_checkpoint_is_named_and_the_one_before_used(tmp_path, caplog, how):
    saved(tmp_path / "c")
    damage(tmp_path / "c" / "4", how)
    data, expected = numbers(), [next(n) for n in [numbers()] for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        step, state = restored(tmp_path / "c", data=data)
    assert step == 2 and f"{tmp_path / 'c' / '4'} cannot be read" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, state, shifted(2))
    assert next(data) == expected[1]


def flip(checkpoint, bit=1):
    """Changes one bit in the numbers of the largest array."""
    path = max((checkpoint / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= bit
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("with_checksums", [True, False])
def test_one_flipped_bit_is_noticed(tmp_path, caplog, with_checksums):
    state = {"net": jnp.asarray(np.random.default_rng(0).standard_normal(2000, np.float32))}
    writer = Checkpoints(tmp_path / "c")
    for step in (2, 4):
        writer.save(step, state)
    writer.close()
    damaged = flip(tmp_path / "c" / "4")
    if not with_checksums:  # As versions before wrote them: they open, and nobody notices.
        for step in (2, 4):
            (tmp_path / "c" / str(step) / "state" / checkpoints.CHECKSUMS).unlink()
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        step, _ = restored(tmp_path / "c", state)
        step_read, parts = checkpoints.read(tmp_path / "c", {"net": state["net"]})
    assert step == step_read == (2 if with_checksums else 4)
    assert np.array_equal(parts["net"], state["net"]) == with_checksums
    assert (f"{damaged.name} is not what was written" in caplog.text) == with_checksums


def test_file_that_was_lost_is_noticed(tmp_path, caplog):
    saved(tmp_path / "c")
    lost = next((tmp_path / "c" / "4" / "state" / "d").iterdir())
    lost.unlink()
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        assert restored(tmp_path / "c")[0] == 2
    assert f"d/{lost.name} is missing" in caplog.text


@pytest.mark.skipif(
    tuple(map(int, orbax.checkpoint.__version__.split(".")[:2])) < (0, 12),
    reason="orbax 0.11 finds no arrays without it",
)
@pytest.mark.parametrize("checksums", [True, False])
def test_checkpoint_without_metadata_is_read(tmp_path, checksums):
    saved(tmp_path / "c", steps=(4,))
    state = tmp_path / "c" / "4" / "state"
    (state / "_METADATA").unlink()
    if not checksums:
        (state / "SHA256SUMS").unlink()
    step, got = restored(tmp_path / "c")
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, got, shifted(4))
    parts = checkpoints.read(tmp_path / "c", {"net": STATE["net"]})[1]
    np.testing.assert_array_equal(parts["net"]["kernel"], shifted(4)["net"]["kernel"])
    with pytest.raises(UserError, match=r"kernel is of shape \(2, 3\) there and of shape \(2, 2\)"):
        checkpoints.read(tmp_path / "c", {"net": {"kernel": np.zeros((2, 2))}})


def test_checksums_are_those_of_sha256sum(tmp_path):
    saved(tmp_path / "c", steps=(4,))
    folder = tmp_path / "c" / "4" / "state"
    rows = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {"manifest.ocdbt", "_METADATA"} < {name for _, name in rows}
    for digest, name in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_a_checkpoint_of_a_step_is_read_and_no_other(tmp_path):
    saved(tmp_path / "c")
    step, parts = checkpoints.read(tmp_path / "c", {"net": STATE["net"]}, step=2)
    assert step == 2
    np.testing.assert_array_equal(parts["net"]["kernel"], shifted(2)["net"]["kernel"])
    assert checkpoints.steps(tmp_path / "c") == [2, 4] and checkpoints.steps(tmp_path / "d") == []
    with pytest.raises(UserError, match="has no checkpoint of step 3: there is 2, 4"):
        checkpoints.read(tmp_path / "c", {"net": STATE["net"]}, step=3)
    damage(tmp_path / "c" / "2")
    with pytest.raises(UserError, match="the checkpoint of step 2 in .*c is damaged: take another"):
        checkpoints.read(tmp_path / "c", {"net": STATE["net"]}, step=2)


def test_run_replaces_a_corrupt_checkpoint(tmp_path):
    whole = run(stage(), tmp_path)
    damage(tmp_path / "toy" / "checkpoints" / "6")
    again = run(stage(), tmp_path)
    assert again["total"] == whole["total"]
    final = restored(tmp_path / "toy" / "checkpoints", whole)
    assert final[0] == 6 and final[1]["total"] == whole["total"]


def test_only_corrupt_checkpoints_are_an_error(tmp_path):
    saved(tmp_path / "c")
    for step in (2, 4):
        damage(tmp_path / "c" / str(step))
    with pytest.raises(UserError, match="none of the checkpoints in .*c can be read"):
        restored(tmp_path / "c")


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"net": {"kernel": np.zeros((2, 4), np.float32)}, "step": np.int32(0)},
            r"net/kernel is of shape \(2, 3\) there and of shape \(2, 4\) here",
        ),
        (
            STATE | {"extra": np.zeros(2)},
            r"extra is missing there and of shape \(2,\) here",
        ),
        ({"step": np.int32(0)}, r"net/kernel is of shape \(2, 3\) there and missing here"),
    ],
)
def test_first_parameter_that_differs_is_named(tmp_path, like, message):
    saved(tmp_path / "c")
    with pytest.raises(UserError, match=message):
        restored(tmp_path / "c", like)


def test_data_position_of_other_processes_is_taken_up(tmp_path):
    saved(tmp_path / "c")
    (position,) = (tmp_path / "c" / "4" / "data").glob("*.json")
    own, others = numbers(), numbers()
    restored(tmp_path / "c", data=own)
    sums = position.with_name(checkpoints.CHECKSUMS)
    sums.write_text(sums.read_text().replace("0-of-1", "0-of-2"))
    position.rename(position.with_name("process_0-of-2.json"))
    restored(tmp_path / "c", data=others)
    assert next(others) == next(own) != next(numbers())


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/c.*choose another --workdir"):
        Checkpoints(tmp_path / "file" / "c")


@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 4)])
def test_state_saved_on_some_devices_restored_on_others(tmp_path, before, after):
    shardings = [
        partition.replicated(partition.make_mesh(jax.devices()[:n])) for n in (before, after)
    ]
    writer = Checkpoints(tmp_path / "c")
    writer.save(1, partition.place(STATE, shardings[0]))
    writer.close()
    like = partition.place(jax.tree.map(np.zeros_like, STATE), shardings[1])
    _, state = restored(tmp_path / "c", like)
    jax.tree.map(np.testing.assert_array_equal, state, STATE)
    assert state["net"]["kernel"].sharding == shardings[1]
    assert len(state["net"]["kernel"].sharding.device_set) == after


def test_jax_arrays_and_scalars_keep_their_types(tmp_path):
    writer = Checkpoints(tmp_path / "c")
    state = {"half": jnp.ones(3, jnp.bfloat16), "count": jnp.int32(7)}
    writer.save(1, state)
    writer.close()
    _, state = restored(tmp_path / "c", jax.tree.map(jnp.zeros_like, state))
    assert state["half"].dtype == jnp.bfloat16 and state["count"] == 7


def test_parts_are_read_by_themselves(tmp_path):
    saved(tmp_path / "c")
    step, parts = checkpoints.read(tmp_path / "c", {"net": STATE["net"]})
    assert step == 4 and list(parts) == ["net"]
    assert isinstance(parts["net"]["kernel"], np.ndarray)
    np.testing.assert_array_equal(parts["net"]["kernel"], shifted(4)["net"]["kernel"])
    deeper = checkpoints.read(tmp_path / "c", {"net/kernel": STATE["net"]["kernel"]})[1]
    np.testing.assert_array_equal(deeper["net/kernel"], shifted(4)["net"]["kernel"])
    assert checkpoints.read(tmp_path / "nothing", {"net": STATE["net"]}) is None
    assert not (tmp_path / "nothing").exists()


def test_damaged_checkpoints_are_passed_over_by_readers_too(tmp_path, caplog):
    saved(tmp_path / "c")
    damage(tmp_path / "c" / "4")
    with caplog.at_level(logging.WARNING):
        logging.getLogger("ganseg_jax").propagate = True
        step, parts = checkpoints.read(tmp_path / "c", {"net": STATE["net"]})
    assert step == 2 and "cannot be read" in caplog.text
    np.testing.assert_array_equal(parts["net"]["kernel"], shifted(2)["net"]["kernel"])
    damage(tmp_path / "c" / "2")
    with pytest.raises(UserError, match="none of the checkpoints in .*c can be read"):
        checkpoints.read(tmp_path / "c", {"net": STATE["net"]})


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"kernel": np.zeros((2, 4))},
            r"net/kernel is of shape \(2, 3\) there and of shape \(2, 4\)",
        ),
        ({"other": np.zeros(2)}, r"net/kernel is of shape \(2, 3\) there and missing here"),
    ],
)
def test_readers_name_the_first_parameter_that_differs(tmp_path, like, message):
    saved(tmp_path / "c")
    with pytest.raises(UserError, match=message):
        checkpoints.read(tmp_path / "c", {"net": like})


@pytest.mark.parametrize(
    ("name", "step"), [("step_4", 4), ("0004", 4), ("newest", 4), ("run3_6", 6), ("4.part", 4)]
)
@pytest.mark.parametrize("training", [False, True])
def test_a_renamed_checkpoint_is_passed_over_aloud(tmp_path, caplog, name, step, training):
    folder = saved(tmp_path / "c")
    (folder / "4").rename(folder / name)
    logging.getLogger("ganseg_jax").propagate = True
    for _ in range(2):
        found = restored(folder) if training else checkpoints.read(folder, {"net": STATE["net"]})
        assert found[0] == 2
    said = [line for line in caplog.messages if str(folder) in line and "passed" in line]
    assert said == [
        f"{folder / name} is passed over: a checkpoint's folder is called by its step, such as "
        f"{step}"
    ]


def test_what_is_no_renamed_checkpoint_is_not_mentioned(tmp_path, caplog):
    folder = saved(tmp_path / "c")
    for name in ("6.orbax-checkpoint-tmp", "6.orbax-checkpoint-tmp-17", ".trash_8", "4.bak"):
        shutil.copytree(folder / "2", folder / name)  # The last is a copy of what is there.
    (folder / "pictures_8").mkdir()
    (folder / "notes_8.txt").write_text("")
    logging.getLogger("ganseg_jax").propagate = True
    assert checkpoints.read(folder, {"net": STATE["net"]})[0] == 4
    assert restored(folder)[0] == 4
    assert not [line for line in caplog.messages if "passed over" in line]
