"""Drafts of large models, and labels that are made and painted from the page."""

import json

import numpy as np
import pytest

from ganseg_jax import load_generator
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.labels import read_labels
from ganseg_jax.studio import drawing, labelling
from ganseg_jax.studio.drawing import Drawing, Wanted, finished
from tests.studio.conftest import running


def test_slow_models_are_drawn_at_half_size_while_points_move(workdir, monkeypatch):
    monkeypatch.setattr(drawing, "SLOW_SECONDS", 0)
    drawn = Drawing(*load_generator(workdir))
    drawn.compile()
    wanted = Wanted(0, 0, 0, 0)
    assert drawn.slow
    draft, exact = finished(drawn.draw(wanted, draft=True)), finished(drawn.draw(wanted))
    assert (draft.image.shape, draft.exact) == ((8, 8, 3), False)
    assert (exact.image.shape, exact.exact) == ((16, 16, 3), True)
    # Both show the same: the colours, averaged over quarters of the picture, are near.
    quarters = [
        x.image.reshape(2, x.image.shape[0] // 2, 2, -1, 3).mean((1, 3)) for x in (draft, exact)
    ]
    assert np.abs(quarters[0] - quarters[1]).mean() < 40
    # The exact picture comes in pieces, between which a point may be moved.
    assert len(list(drawn.draw(wanted))) == 1


def test_images_to_label_are_made_and_painted(workdir, home):
    with running(workdir) as studio:
        studio.wait()
        assert studio.json("GET", "api/labelling")["count"] == 0
        for content, message in (
            ({"count": 2, "classes": []}, "at least one name"),
            ({"count": 2, "classes": ["a", "a"]}, "every name once"),
            ({"count": 0, "classes": ["a"]}, "from 1 to 50"),
            ({"count": 2, "classes": "ab"}, "a list of names"),
        ):
            assert message in studio.refusal("POST", "api/labelling/make", content)[1]
        folder = workdir / labelling.FOLDER
        assert not folder.exists()
        assert studio.refusal("GET", "label/api/overview", {})[0] == 400
        made = studio.json("POST", "api/labelling/make", {"count": 2, "classes": ["head", "leg"]})
        assert (made["count"], made["labelled"], made["can_train"]) == (2, 0, False)
        assert b"labeller.js" in studio.request("GET", "label/")[2]
        overview = studio.json("GET", "label/api/overview")
        assert [c["name"] for c in overview["classes"]] == ["background", "head", "leg"]
        labels = (np.arange(16 * 16) % 3).astype(np.uint8).tobytes()
        path = "label/api/labels/sample_0001"
        assert studio.request("GET", path)[0] == 204
        assert studio.request("PUT", path, labels)[0] == 204
        assert studio.request("GET", path)[2] == labels
        assert studio.request("PUT", path, labels + b"\0")[0] == 413
        assert studio.request("PUT", path, bytes([9]) * 256)[0] == 400
        assert studio.request("PUT", "label/api/labels/..%2fx", labels)[0] == 405
        assert studio.json("GET", "api/labelling")["can_train"]
        assert read_labels(folder).names == ["sample_0001"]
        again = {"count": 2, "classes": ["head"]}
        assert "already" in studio.refusal("POST", "api/labelling/make", again)[1]


def test_few_shot_training_is_started_followed_and_ended(workdir, monkeypatch):
    shown = labelling.Labelling(workdir, lambda: load_generator(workdir))
    with pytest.raises(UserError, match="no few-shot training was started"):
        shown.stop()
    script = workdir / "python"
    script.write_text('#!/bin/sh\necho "$@"\necho head 1/20\nsleep 60\n')
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    shown.train()
    while not (line := shown.state()["line"]).startswith("head"):
        assert line is not None
    state = shown.state()
    assert state["training"] and not state["can_train"]
    with pytest.raises(UserError, match="runs already"):
        shown.train()
    log = (workdir / labelling.LOG_FILE).read_text()
    assert f"-m ganseg_jax.cli.few_shot --workdir={workdir} --labels={shown.folder}" in log
    shown.stop()
    shown._training.wait(10)
    assert not shown.state()["training"] and not shown.state()["failed"]
    packed = labelling.Labelling("people", lambda: load_generator("people"))
    with pytest.raises(UserError, match="needs the workdir of a run"):
        packed.train()
    assert json.dumps(packed.state())
