"""Records are sorted on disk as TFDS sorts them in memory; threads keep the order of items."""

import threading

import pytest
from tensorflow_datasets.core import shuffle

from ganseg_jax.data import ahead, prepare, shuffling

RECORDS = {f"train/{number}": bytes([number]) * (number + 1) for number in range(200)}


def shuffled(kind, folder):
    made = kind(folder, "salt")
    for key, data in RECORDS.items():
        made.add(key, data)
    assert (made.num_examples, sum(made.bucket_lengths)) == (200, 200)
    return made.size, list(made)


def test_the_order_is_that_of_tfds(tmp_path):
    ours = shuffled(shuffling.DiskShuffler, tmp_path)
    assert ours == shuffled(shuffle.Shuffler, tmp_path) and not list(tmp_path.iterdir())


def test_a_key_used_twice_is_refused(tmp_path):
    made = shuffling.DiskShuffler(tmp_path, "salt")
    made.add("a", b"1")
    made.add("a", b"2")
    with pytest.raises(shuffle.DuplicatedKeysError):
        list(made)


def test_large_sets_are_prepared_without_tensorflow(tmp_path, picture, monkeypatch):
    """Beyond what TFDS keeps in memory, 1 GiB, it would import TensorFlow."""
    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 100)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(picture(seed=number))
    made = prepare.prepare("image_folder", photos, tmp_path / "data")
    assert sum(made.counts.values()) == 6


def test_threads_work_ahead_in_order():
    waiting = threading.Barrier(2, timeout=10)  # Passed only by two at a time.
    names = [threading.current_thread().name]

    def square(number):
        waiting.wait()
        names.append(threading.current_thread().name)
        return number**2

    found = list(ahead.in_order(square, range(20), threads=2))
    assert found == [(number, number**2) for number in range(20)]
    assert len(set(names)) == 3


def test_items_are_read_as_they_are_needed_and_errors_come_out_where_they_belong():
    read = []

    def numbers():
        for number in range(100):
            read.append(number)
            yield number

    results = ahead.in_order(lambda number: 1 / (3 - number), numbers(), threads=2)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2] and len(read) < 10
    with pytest.raises(ZeroDivisionError):
        next(results)
