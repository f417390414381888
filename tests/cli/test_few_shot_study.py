import json

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.config import file as config_file
from ganseg_jax.config import with_fields
from ganseg_jax.data.builders.puppets import render
from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError

SIZES = {"head_steps": 2, "num_samples": 10, "num_steps": 2, "batch_size": 4, "unet_width": 2}


@pytest.fixture
def puppets(monkeypatch):
    """Rendered puppets where the study looks for the data set."""

    def load(name, folder, split, size, limit=None):
        assert name == "puppets"
        made = render.render(min(limit or 20, 40), size, seed=len(split))
        names = [str(i) for i in range(len(made.images))]
        return Split(
            made.images, names, made.labels.astype(np.int32), part_names=list(render.PART_NAMES)
        )

    from ganseg_jax.studies import few_shot as study

    monkeypatch.setattr(study.data, "load_split", load)


def test_what_is_finished_is_skipped(entry_point, workdir, puppets, tmp_path, capsys):
    given = {"workdir": workdir, "output": tmp_path, "head": "mlp", "unet_depth": 2, **SIZES}
    entry_point("few_shot_study", shots=1, supervised=2, **given).main()
    first = json.loads((tmp_path / "study.json").read_text())
    assert [(e["kind"], e["labels"]) for e in first["entries"]] == [
        ("few-shot", 1),
        ("supervised", 2),
    ]
    assert 0.8 < first["rule"]["mean_iou"] < 1 and first["images"] == 20
    said = capsys.readouterr().out
    assert said.count("mean IoU") == 2

    # The same again draws the figures again, and another number of labels is added to them.
    (tmp_path / "study.png").unlink()
    entry_point("few_shot_study", shots=1, supervised="2,3", **given).main()
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["entries"][:2] == first["entries"] and len(content["entries"]) == 3
    said = capsys.readouterr().out
    assert said.count("mean IoU") == 1 and "supervised, 3 labels" in said
    table = (tmp_path / "study.md").read_text()
    assert "made automatically, not by a person" in table
    assert table.count("| 0 |") == 3 and "| 3 real |" in table
    for name in ("study", "labelled", "segmented"):
        assert min(Image.open(tmp_path / f"{name}.png").size) > 100

    with pytest.raises(UserError, match="was begun with num_steps=2, now it is 9"):
        entry_point("few_shot_study", **{**given, "num_steps": 9}).main()


def test_labels_of_a_person(entry_point, workdir, puppets, tmp_path):
    entry_point("sample", workdir=workdir, output=tmp_path / "in", for_labelling=3).main()
    for i, (name, size) in enumerate((("0000", 16), ("0002", 16))):
        Image.fromarray(np.full((size, size), i + 1, np.uint8)).save(
            tmp_path / "in" / f"sample_{name}_mask.png"
        )
    classes = ["torso", "head"]
    (tmp_path / "in" / "classes.json").write_text(json.dumps({"classes": classes}))
    given = {"workdir": workdir, "output": tmp_path / "out", "labels": tmp_path / "in"}
    given |= {"head": "mlp", "unet_depth": 2, "supervised": 2, **SIZES}
    entry_point("few_shot_study", shots=2, **given).main()
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    assert content["classes"] == ["background", *classes] and "rule" not in content
    assert [list(entry["iou"]) for entry in content["entries"]] == [content["classes"]] * 2
    assert "were given, not made by rule" in (tmp_path / "out" / "study.md").read_text()
    with pytest.raises(UserError, match="2 label maps, but 3 are asked for"):
        entry_point("few_shot_study", shots=3, **given).main()
    with pytest.raises(UserError, match="--supervised=900"):
        entry_point("few_shot_study", shots=2, **{**given, "supervised": 900}).main()


def test_mistakes_are_named(entry_point, workdir, tmp_path):
    given = {"workdir": workdir, "output": tmp_path / "out"}
    with pytest.raises(UserError, match="--shots=1,x: give whole numbers from 1"):
        entry_point("few_shot_study", shots="1,x", **given).main()
    config = with_fields(config_file.load_config(workdir), {"dataset.name": "cub"})
    config_file.save_config(config, tmp_path)
    with pytest.raises(UserError, match="only puppets .* the GAN in .* on 'cub': give --labels"):
        entry_point("few_shot_study", **{**given, "workdir": tmp_path}).main()
    assert not (tmp_path / "out").exists()
