import threading

import pytest

from ganseg_jax.studio.work import DRAG, PHOTO, SAMPLE, Superseded, Worker


@pytest.fixture
def held():
    """A worker that has nothing done until `go` is set."""
    worker, go = Worker(), threading.Event()
    worker.submit(DRAG, lambda: go.wait(10))
    yield worker, go
    go.set()
    worker.close()


def test_small_things_come_first_and_the_newest_wins(held):
    worker, go = held
    done = []
    photo = worker.submit(PHOTO, lambda: done.append("photo"))
    tile = worker.submit(SAMPLE, lambda: done.append("tile"))
    drags = [worker.submit(DRAG, lambda n=n: done.append(n), "page") for n in range(3)]
    other = worker.submit(DRAG, lambda: done.append("other"), "another page")
    go.set()
    for future in (photo, tile, drags[2], other):
        future.result(10)
    assert done == [2, "other", "tile", "photo"]
    for old in drags[:2]:
        with pytest.raises(Superseded):
            old.result(10)


def test_a_long_job_in_pieces_lets_others_pass_and_is_given_up(held):
    worker, go = held
    done = []

    def pieces(name):
        for n in range(3):
            done.append(f"{name}{n}")
            if name == "a" and n == 0:
                worker.submit(DRAG, lambda: done.append("drag"))
            if name == "b" and n == 1:
                worker.submit(DRAG, lambda: "new", "page")
            yield
        return name

    first = worker.submit(SAMPLE, lambda: pieces("a"))
    second = worker.submit(SAMPLE, lambda: pieces("b"), "page")
    go.set()
    assert first.result(10) == "a"
    with pytest.raises(Superseded):
        second.result(10)
    assert done[:3] == ["a0", "drag", "a1"] and done[-1] == "b1"


def test_mistakes_reach_who_asked_and_the_next_job_runs(held):
    worker, go = held
    go.set()
    with pytest.raises(ZeroDivisionError):
        worker.submit(DRAG, lambda: 1 / 0).result(10)
    assert worker.submit(DRAG, lambda: 5).result(10) == 5
