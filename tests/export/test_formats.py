"""Exported files, opened as somebody opens them who has not got this package."""

import json
import subprocess
import sys

import jax
import numpy as np
import onnxruntime
import pytest

import ganseg_jax
from ganseg_jax.errors import UserError
from ganseg_jax.export import formats, stablehlo
from ganseg_jax.export.formats import export
from ganseg_jax.interop import weights
from tests.export.photos import photos

ELSEWHERE = """
import sys
import numpy as np

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Nothing())
given = np.load("photos.npz")
for name in given:
    photos = given[name]
    {run}
    np.savez(name, labels=labels, probabilities=probabilities)
"""
ONNX = """
    import onnxruntime
    session = onnxruntime.InferenceSession("{file}")
    labels, probabilities = session.run(["labels", "probabilities"], {{"images": photos}})
"""
STABLEHLO = """
    import jax
    segment = jax.export.deserialize(open("{file}", "rb").read())
    assert segment.platforms == ("cpu", "cuda", "tpu")
    labels, probabilities = segment.call(photos)
"""


def run_elsewhere(folder, program, file, refused, sizes):
    """Runs a program on photos of some sizes, in a process without the packages named."""
    given = {f"{n}_{h}_{w}": photos(n, h, w, seed=i) for i, (n, h, w) in enumerate(sizes)}
    np.savez(folder / "photos.npz", **given)
    text = ELSEWHERE.format(refused=set(refused), run=program.format(file=file).strip())
    subprocess.run([sys.executable, "-c", text], check=True, cwd=folder)
    return {name: (images, np.load(folder / f"{name}.npz")) for name, images in given.items()}


def assert_same(results, segmenter):
    for images, seen in results.values():
        expected = segmenter.probabilities(images)
        assert seen["labels"].dtype == np.int32 and seen["labels"].shape == images.shape[:3]
        np.testing.assert_allclose(seen["probabilities"], expected, atol=1e-4)
        assert (seen["labels"] == segmenter(images)).mean() > 0.999


def test_onnx_needs_onnxruntime_and_numpy_only(tmp_path):
    paths = export("people", "onnx", tmp_path / "people.onnx")
    assert [path.name for path in paths] == ["people.onnx", "people.md"]
    sizes = [(1, 90, 70), (3, 64, 64), (2, 30, 200), (1, 1, 1), (2, 1, 300), (1, 1000, 2)]
    refused = ("jax", "ganseg_jax", "onnx", "flax", "PIL")
    results = run_elsewhere(tmp_path, ONNX, "people.onnx", refused, sizes)
    assert_same(results, ganseg_jax.load_segmenter("people", engine="jax"))


def test_stablehlo_needs_jax_only_and_holds_refinement(entry_point, workdir, tmp_path):
    entry_point(
        "export", "--refine", workdir=workdir, format="stablehlo", output=tmp_path / "out"
    ).main()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "segmenter.stablehlo",
    ]
    refused = ("ganseg_jax", "flax", "onnx", "PIL")
    sizes = [(1, 40, 23), (3, 16, 16), (1, 1, 1), (2, 90, 1)]
    results = run_elsewhere(tmp_path, STABLEHLO, "out/segmenter.stablehlo", refused, sizes)
    segmenter = ganseg_jax.load_segmenter(workdir, engine="jax")
    segmenter.refine = True
    assert_same(results, segmenter)


def test_no_photos_and_photos_without_pixels():
    segmenter = ganseg_jax.load_segmenter("people", engine="onnxruntime")
    model = onnxruntime.InferenceSession(formats.onnx_bytes(segmenter)[0])
    none = np.zeros((0, 40, 30, 3), np.uint8)
    labels, probabilities = model.run(["labels", "probabilities"], {"images": none})
    for seen in (labels, segmenter(none)):
        assert seen.shape == (0, 40, 30) and seen.dtype == np.int32
    for seen in (probabilities, segmenter.probabilities(none)):
        assert seen.shape == (0, 40, 30, 7) and seen.dtype == np.float32
    for shape in ((1, 0, 5, 3), (2, 5, 0, 3), (1, 0, 0, 3)):
        empty = np.zeros(shape, np.uint8)
        with pytest.raises(ValueError, match=r"a photo needs at least one pixel, and these are \("):
            segmenter(empty)
        with pytest.raises(Exception, match="division by zero"):
            model.run(None, {"images": empty})


def test_stablehlo_says_which_sides_it_takes(workdir):
    segmenter = ganseg_jax.load_segmenter(workdir, engine="jax")
    program = jax.export.deserialize(bytearray(stablehlo.artefact(segmenter)))
    most = stablehlo.longest_side(segmenter.image_size)
    long = photos(1, most, 1)
    labels, _ = program.call(long)
    assert (labels == segmenter(long)).mean() > 0.999
    for shape, line in {
        (0, 4, 5): "Expected value >= 1 for dimension variable 'n'",
        (1, 0, 5): "Expected value >= 1 for dimension variable 'h'",
        (1, 4, 0): "Expected value >= 1 for dimension variable 'w'",
        (1, most + 1, 1): "Error refining shapes",  # JAX does not say which.
    }.items():
        with pytest.raises(ValueError, match=line):
            program.call(np.zeros((*shape, 3), np.uint8))


def test_the_few_shot_network_with_its_classes(workdir, few_shot, tmp_path):
    place = workdir / few_shot
    segmenter = ganseg_jax.load_segmenter(place, engine="jax")
    onnx, _ = export(place, "onnx", tmp_path / "parts.onnx", licence="CC BY 4.0")
    results = run_elsewhere(tmp_path, ONNX, onnx.name, ("ganseg_jax", "jax"), [(2, 30, 21)])
    assert_same(results, segmenter)
    card = (tmp_path / "parts.md").read_text()
    assert "| 1 | round |" in card and "CC BY 4.0" in card and "U-Net" in card
    images = photos(2, 20, 30)
    for kind, away in (("safetensors", 1e-5), ("folder", 1e-2)):
        export(place, kind, tmp_path / kind)
        again = ganseg_jax.load_segmenter(tmp_path / kind)
        assert again.classes == segmenter.classes and again.engine == "onnxruntime"
        seen, expected = again.probabilities(images), segmenter.probabilities(images)
        np.testing.assert_allclose(seen, expected, atol=away)


def test_weights_go_and_come_back(workdir, tmp_path):
    export(workdir, "safetensors", tmp_path / "weights")
    module, variables = ganseg_jax.load_generator(tmp_path / "weights")
    expected = ganseg_jax.load_generator(workdir)
    assert module == expected[0]
    jax.tree.map(np.testing.assert_array_equal, variables, dict(expected[1]))
    arrays = weights.read(tmp_path / "weights" / "weights.safetensors")
    assert any(name.startswith("segmenter.params/backbone/conv1") for name in arrays)
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert config["dataset"]["data_dir"] == config["dataset"]["source"] == ""


def test_a_card_says_what_the_model_is(tmp_path):
    export("people", "onnx", tmp_path / "people")
    card = (tmp_path / "people" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: ganseg_jax\n") and "\nlicense: mit\ntags:\n" in card
    for part in ("# people", "`people_ccp`", "| foreground iou | 0.7807 |", "| 6 | part 6 |"):
        assert part in card
    for part in ("opset 17", "MIT", "64 x 64", "edges of each photo's colours", "onnx 1."):
        assert part in card


def test_mistakes_are_answered_in_one_line(workdir, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes.txt is a file: give a folder, or .* \.onnx"):
        export(workdir, "onnx", tmp_path / "notes.txt")
    with pytest.raises(UserError, match=r"notes.txt is a file: give a folder$"):
        export(workdir, "folder", tmp_path / "notes.txt")
    with pytest.raises(UserError, match="--format=folder keeps the config's refinement"):
        export(workdir, "folder", tmp_path / "out", refine=True)
    with pytest.raises(UserError, match="--format=onxx is not known: give one of onnx, stable"):
        export(workdir, "onxx", tmp_path / "out")
    with pytest.raises(UserError, match="nothing was trained there"):
        export(tmp_path, "onnx", tmp_path / "out")
