"""Metrics, pictures and TensorBoard events of a stage."""

import json

import numpy as np
from PIL import Image
from tensorboardX.proto import event_pb2

from ganseg_jax.files import read_rows
from ganseg_jax.training.writer import Writer

PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def test_rows_are_flat_json(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(10, {"loss": 0.123456789, "rate": 2})
    writer.scalars(20, {"loss": float("inf")})
    writer.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [10, 20] and rows[0]["time"] <= rows[1]["time"]
    assert rows[0]["loss"] == 0.123457 and rows[0]["rate"] == 2 and rows[1]["loss"] == "inf"


def test_rows_after_the_step_gone_on_from_are_dropped(tmp_path):
    writer = Writer(tmp_path)
    for step in (2, 4, 6):
        writer.scalars(step, {"loss": step})
    writer.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 8, "lo')  # Cut off in the middle of a row.
    assert [row["step"] for row in read_rows(path)] == [2, 4, 6]
    again = Writer(tmp_path, from_step=4)
    again.scalars(6, {"loss": 60})
    again.close()
    assert [(row["step"], row["loss"]) for row in read_rows(path)] == [(2, 2), (4, 4), (6, 60)]
    assert sorted(p.name for p in tmp_path.iterdir() if "tfevents" not in p.name) == [path.name]


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_pictures_and_events(tmp_path):
    writer = Writer(tmp_path)
    writer.picture(7, "samples", PICTURE)
    writer.scalars(7, {"loss": 1.5})
    writer.close()
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["samples_0000007.png"]
    saved = np.asarray(Image.open(tmp_path / "samples" / "samples_0000007.png"))
    np.testing.assert_array_equal(saved, PICTURE)
    (events,) = tmp_path.glob("*tfevents*")
    assert {("samples", 7), ("loss", 7)} <= set(event_tags(events.read_bytes()))


def event_tags(data):
    """(tag, step) of the values of a TensorBoard file: length, 4 bytes, record, 4 bytes."""
    while data:
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        yield from ((value.tag, event.step) for value in event.summary.value)
        data = data[16 + length :]
