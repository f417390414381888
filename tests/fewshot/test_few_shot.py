"""All stages on a tiny generator: samples, labels, head, auto-shot network, measures, report."""

import dataclasses
import json
import shutil
import time

import jax
import numpy as np
import pytest
from PIL import Image

import ganseg_jax
from ganseg_jax import loading, pixels
from ganseg_jax.config import few_shot as schema
from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import autoshot, comparison, evaluate, pipeline, report, results, samples
from ganseg_jax.fewshot.labels import classes_json
from ganseg_jax.fewshot.source import Source
from ganseg_jax.latents import sample_latents
from ganseg_jax.models.generator import Generator
from ganseg_jax.models.initialise import init_variables
from ganseg_jax.models.unet import UNet
from ganseg_jax.training.checkpoint import Checkpoints

SETTINGS = schema.FewShot(
    head_kind="mlp",
    mlp_hidden=(16, 8),
    unet_width=2,
    unet_depth=2,
    log_every=4,
    checkpoint_every=4,
    head=schema.Head(epochs=4),
    auto_shot=schema.AutoShot(num_samples=12, num_steps=8, batch_size=4),
)
OPTIONS = dict(
    num_parts=2, points_per_part=3, noise_dim=4, embedding_dim=4, stage_sizes=(8, 16),
    stage_channels=(4, 4), margin=2, spade_hidden=4, point_layers=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def source():
    module = Generator(**OPTIONS)
    variables = init_variables(module, 0, sample_latents(jax.random.key(0), 1, 4), train=False)
    return Source.of(module, ["mask", "foreground"]), variables


@pytest.fixture(scope="module")
def labelled(source, tmp_path_factory):
    """Three generated images, two of them labelled: a box in each."""
    folder = tmp_path_factory.mktemp("labels")
    names = samples.write_samples(folder, *source, jax.random.key(3), 3)
    for i, name in enumerate(names[:2]):
        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 4 + i : 10 + i] = 1
        Image.fromarray(mask).save(folder / f"{name}_mask.png")
    (folder / "classes.json").write_text(classes_json(["box"]))
    return folder


def prepare(source, labelled, folder, settings=SETTINGS, **options):
    return pipeline.prepare(folder, *source, labelled, settings, **options)


def test_samples_come_back_with_their_latents(source, labelled, tmp_path):
    generator, variables = source
    latents = samples.read_latents(labelled, ["sample_0002", "sample_0000"])
    images = np.asarray(generator.images(variables, latents))
    for row, name in enumerate(["sample_0002", "sample_0000"]):
        stored = np.asarray(Image.open(labelled / f"{name}.png")).astype(float)
        np.testing.assert_allclose(stored, (images[row] + 1) * 127.5, atol=0.51)
    with pytest.raises(UserError, match="no latents of 'other'"):
        samples.read_latents(labelled, ["other"])
    with pytest.raises(UserError, match="holds images to label already"):
        samples.write_samples(labelled, generator, variables, jax.random.key(0), 1)
    with pytest.raises(UserError, match=r"has no latents\.npz"):
        samples.read_latents(tmp_path, ["other"])


def test_stages_resume_and_end_in_a_segmenter_and_a_report(source, labelled, tmp_path):
    folder = tmp_path / "few_shot"
    few = prepare(source, labelled, folder)
    assert few.labelled.names == ["sample_0000", "sample_0001"]
    params = pipeline.train_head(few)
    images, soft = pipeline.label_samples(few, params)
    assert images.shape == (12, 16, 16, 3) and soft.shape == (12, 16, 16, 2)
    np.testing.assert_allclose(np.asarray(soft, int).sum(-1), 255, atol=1)
    segmenter = pipeline.train_auto_shot(folder, images, soft, SETTINGS)

    # Again: everything is there, nothing is trained, the result is the same.
    rows = (folder / "auto_shot" / "metrics.jsonl").read_text()
    few = prepare(source, labelled, folder)
    for a, b in zip(
        jax.tree.leaves(params), jax.tree.leaves(pipeline.train_head(few)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    again = pipeline.train_auto_shot(folder, *pipeline.label_samples(few, params), SETTINGS)
    assert (folder / "auto_shot" / "metrics.jsonl").read_text() == rows
    photos = np.random.default_rng(0).integers(0, 256, (3, 21, 30, 3), np.uint8)
    expected = segmenter.probabilities(photos)
    assert expected.shape == (3, 21, 30, 2)
    np.testing.assert_allclose(again.probabilities(photos), expected, atol=1e-6)
    loaded = ganseg_jax.load_segmenter(folder)
    assert loaded.classes == ("background", "box") and loaded.image_size == 16
    np.testing.assert_allclose(loaded.probabilities(photos), expected, atol=1e-5)
    labels = loaded(photos)
    assert labels.shape == (3, 21, 30) and labels.dtype == np.int32
    assert loaded.part_centers(photos).shape == (3, 1, 2)
    loaded.image_size = None  # One pass at the photo's own size, which sees more than 16 px.
    own = loaded.probabilities(photos)
    assert own.shape == expected.shape and np.abs(own - expected).max() > 1e-3
    loaded.image_size = 16

    head = results.load_head(folder, source[0].module, source[1])
    assert head.classes == loaded.classes and head.source.layers == few.source.layers
    jax.tree.map(np.testing.assert_array_equal, head.params, params)
    other = Generator(**{**OPTIONS, "stage_sizes": (16,), "stage_channels": (4,)})
    with pytest.raises(UserError, match="trained on features of another generator"):
        results.load_head(folder, other, source[1])

    truth = np.zeros((3, 21, 30), np.int32)
    truth[:, 5:15, 5:15] = 1
    split = Split(photos, ["a", "b", "c"], segmentation=truth, part_names=["box"])
    measured = evaluate.measure(
        loaded, photos, evaluate.true_labels(split, few.labelled.classes), ["background", "box"]
    )
    truth = evaluate.true_labels(split, few.labelled.classes)
    figures = measured.figures() | {"num_images": measured.images}
    found = comparison.compare(few, None)
    assert found.way == "generated" and not found.lines()
    taught = comparison.Taught((images, soft), "")
    report.write(few, loaded, split, truth, figures, taught, found, "boxes")
    written = json.loads((folder / "metrics.json").read_text())
    assert written["mean_iou"] == measured.mean and written["num_shots"] == 2
    page = (folder / "report.html").read_text()
    assert "2-shot parts of boxes" in page and "IoU by class on 3 photos" in page


def test_an_interrupted_auto_shot_goes_on_to_the_same_result(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (12, 16, 16, 3), np.uint8)
    labels = rng.integers(0, 256, (12, 16, 16, 2), np.uint8)
    whole = pipeline.train_auto_shot(tmp_path / "whole", images, labels, SETTINGS)
    shorter = dataclasses.replace(SETTINGS.auto_shot, num_steps=4)
    first = dataclasses.replace(SETTINGS, auto_shot=shorter)
    pipeline.train_auto_shot(tmp_path / "parts", images, labels, first)
    parts = pipeline.train_auto_shot(tmp_path / "parts", images, labels, SETTINGS)
    np.testing.assert_allclose(parts.probabilities(images), whole.probabilities(images), atol=1e-4)


def test_what_does_not_fit_is_said(source, labelled, tmp_path):
    prepare(source, labelled, tmp_path)
    changed = dataclasses.replace(SETTINGS, head_kind="cnn")
    with pytest.raises(UserError, match="was begun with head_kind=mlp, now it is cnn"):
        prepare(source, labelled, tmp_path, changed)
    # Another choice of labelled images is an input, which the stages ask about.
    assert len(prepare(source, labelled, tmp_path, shots=1).labelled.names) == 1
    with pytest.raises(UserError, match="2 label maps, but 5 are asked for"):
        prepare(source, labelled, tmp_path / "new", shots=5)
    other = dataclasses.replace(source[0], module=source[0].module.clone(stage_sizes=(16, 32)))
    with pytest.raises(UserError, match="are 16x16, but this generator makes 32x32"):
        prepare((other, source[1]), labelled, tmp_path / "new")


def test_unfinished_results_are_said(source, labelled, tmp_path):
    with pytest.raises(UserError, match="nowhere holds no few-shot result: run.*few_shot"):
        loading.few_shot_config(tmp_path / "nowhere")
    few = prepare(source, labelled, tmp_path)
    with pytest.raises(UserError, match=r"head in .* is not finished \(0 of 8 steps\)"):
        results.load_head(tmp_path, source[0].module, source[1])
    assert not (tmp_path / "head").exists()
    state = autoshot.init_state(UNet(2, 2, 2), 16, SETTINGS.auto_shot)
    checkpoints = Checkpoints(few.folder / "auto_shot" / "checkpoints")
    checkpoints.save(4, state)
    checkpoints.close()
    with pytest.raises(UserError, match=r"network in .* is not finished \(4 of 8 steps\)"):
        ganseg_jax.load_segmenter(tmp_path)


def split_of(labels, names):
    labels = np.array(labels, np.int32).reshape(1, 1, -1)
    return Split(np.zeros((1, 1, labels.size, 3), np.uint8), ["a"], labels, part_names=names)


def test_truth_is_matched_by_name_or_number():
    split = split_of([0, 1, 2, 3, -1], ["head", "torso", "arm"])
    by_name = evaluate.true_labels(split, ["background", "Arm", "head"])
    np.testing.assert_array_equal(by_name.ravel(), [0, 2, 0, 1, 255])
    by_number = evaluate.true_labels(split, ["background", "x", "y"], {"x": "3", "y": "1"})
    np.testing.assert_array_equal(by_number.ravel(), [0, 2, 0, 1, 255])
    # Nothing says which part is which class.
    assert evaluate.true_labels(split, ["background", "x", "y", "z"]) is None
    with pytest.raises(UserError, match="class 'tail' is no part.*head, torso, arm"):
        evaluate.true_labels(split, ["background", "head", "tail"])
    assert evaluate.true_labels(split, ["background", "x"]) is None
    mapped = evaluate.true_labels(split, ["background", "x"], {"x": "torso"})
    np.testing.assert_array_equal(mapped.ravel(), [0, 0, 1, 0, 255])
    with pytest.raises(UserError, match="--class_map: 'y' is none of x"):
        evaluate.true_labels(split, ["background", "x"], {"y": "torso"})


def test_measures_of_a_known_case():
    truth = np.array([[[0, 0, 1, 1, 2, 255]]])
    predicted = np.array([[[0, 1, 1, 1, 0, 0]]])
    measured = evaluate.measure(
        lambda images: predicted, np.zeros((1, 1, 6, 3), np.uint8), truth, ["background", "a", "b"]
    )
    # Background 1 of 3 pixels, a 2 of 3, b 0 of 1; true shares 2/5, 2/5, 1/5.
    np.testing.assert_allclose(list(measured.by_class.values()), [1 / 3, 2 / 3, 0])
    np.testing.assert_allclose(measured.mean, 1 / 3)
    np.testing.assert_allclose(measured.weighted, 0.4 / 3 + 0.8 / 3)
    assert measured.images == 1


def add_photos(folder, count, labels=None):
    """Photos of 40x24 pixels with a box; returns picture and label map of the last."""
    rng = np.random.default_rng(1)
    for i in range(count):
        picture = rng.integers(0, 256, (24, 40, 3), np.uint8)
        mask = np.zeros((24, 40), np.uint8)
        mask[6:18, 5 + i : 20 + i] = 1
        mask = mask if labels is None else labels
        Image.fromarray(picture).save(folder / f"photo_{i}.png")
        Image.fromarray(mask).save(folder / f"photo_{i}_mask.png")
    return picture, mask


def test_photos_of_any_size_stand_beside_generated_images(source, labelled, tmp_path):
    folder = tmp_path / "mixed"
    shutil.copytree(labelled, folder)
    picture, mask = add_photos(folder, 1)
    mask[:12] = 255
    Image.fromarray(mask).save(folder / "photo_0_mask.png")
    # Stored on its side, as phones do.
    (folder / "photo_0.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture).copy()).save(
        folder / "photo_0.webp", lossless=True, exif=exif
    )
    few = prepare(source, folder, tmp_path / "out")
    assert few.labelled.names == ["sample_0000", "sample_0001"] and few.uses_head
    assert few.photos.names == ["photo_0"] and not few.absent
    np.testing.assert_array_equal(few.photos.images[0], pixels.shrink(picture, 16))
    np.testing.assert_array_equal(few.photos.labels[0], pixels.resize_labels(mask, 16, 16))
    assert (few.photos.labels[0][:8] == 255).all()
    found = comparison.Comparison("together", {}, None, 1)
    assert comparison.trainings(few) == 0 and "is not measured (fewer" in found.lines()[0]
    forced = dataclasses.replace(SETTINGS, photos=schema.Photos("alone"))
    assert not prepare(source, folder, tmp_path / "alone", forced).uses_head


def test_one_photo_alone_is_enough_and_a_changed_map_trains_again(source, tmp_path, caplog):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    add_photos(folder, 1)

    def trained():
        few = prepare(source, folder, out, classes=["box"])
        found = comparison.compare(few, None)
        assert found.way == "alone" and not found.figures and not few.uses_head
        network = comparison.train(few, None, found.way, few.photos, few.folder, SETTINGS)
        report.write(few, network, None, None, {}, None, found, "boxes")
        return network.probabilities(few.photos.images)

    first = trained()
    np.testing.assert_array_equal(trained(), first)
    page = (out / "report.html").read_text()
    assert "1 labelled photos" in page and "is not measured" in page
    with pytest.raises(UserError, match="has no head"):
        results.load_head(out, source[0].module, source[1])
    add_photos(folder, 1, np.ones((24, 40), np.uint8))
    with caplog.at_level("INFO"):
        assert np.abs(trained() - first).max() > 1e-3
    assert any("trained again (other now: photos" in line for line in caplog.messages)
    together = dataclasses.replace(SETTINGS, photos=schema.Photos("together"))
    with pytest.raises(UserError, match="has no labelled generated image"):
        prepare(source, folder, tmp_path / "new", together)


def test_each_photo_is_left_out_once_and_the_better_labels_are_taken(
    source, labelled, tmp_path, monkeypatch
):
    folder, seen = tmp_path / "mixed", []
    shutil.copytree(labelled, folder)
    add_photos(folder, 5)
    few = prepare(source, folder, tmp_path / "out")
    rows = {image.tobytes(): i for i, image in enumerate(few.photos.images)}
    right = {"generated": 0, "alone": 5, "together": 3}

    def train(few, taught, way, photos, where, settings, *stages):
        assert settings.auto_shot.num_steps == 3  # 0.3 of 8.
        seen.append((way, photos.names))

        def predict(images):
            chosen = [rows[image.tobytes()] for image in images]
            assert way == "generated" or not {few.photos.names[i] for i in chosen} & set(
                photos.names
            )
            return np.stack([few.photos.labels[i] * (i < right[way]) for i in chosen])

        return predict

    monkeypatch.setattr(comparison, "train", train)
    found = comparison.compare(few, comparison.Taught((None, None), ""))
    assert len(seen) == comparison.trainings(few) == 5
    assert found.figures["alone"] == 1 > found.figures["together"] > found.figures["generated"]
    assert found.way == "alone" and "left out in training" in found.lines()[0]
    np.testing.assert_array_equal(found.left_out, few.photos.labels)
    # A difference that five photos cannot show.
    right["together"] = 5
    assert comparison.compare(few, comparison.Taught((None, None), "")).way == "together"


def test_photos_have_their_share_and_pixels_without_label_teach_nothing():
    soft = autoshot.one_hot(np.array([[[0, 1, 255]]]), 2)
    assert soft.tolist() == [[[[255, 0], [0, 255], [0, 0]]]]
    photos = autoshot.Photos(
        np.ones((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 2), np.uint8), 0.25
    )
    images, labels = np.zeros((12, 8, 8, 3), np.uint8), np.zeros((12, 8, 8, 2), np.uint8)
    batches = autoshot.sample_batches(images, labels, 4, 0, photos)
    drawn = np.concatenate([next(batches)["image"][:, 0, 0, 0] for _ in range(4)])
    assert drawn.sum() == 4 and drawn.size == 16  # One epoch.
    targets = np.zeros((1, 1, 3, 2), np.float32)
    targets[..., :2, :] = soft[..., :2, :] / 255
    gradient = jax.grad(autoshot.soft_cross_entropy)(np.ones((1, 1, 3, 2), np.float32), targets)
    assert np.abs(gradient[0, 0, :2]).min() > 0 and not gradient[0, 0, 2].any()


def test_few_batches_are_read_ahead(monkeypatch):
    read = []
    one_sample = autoshot._Samples.__getitem__

    def noted(self, index):
        read.append(index)
        return one_sample(self, index)

    monkeypatch.setattr(autoshot._Samples, "__getitem__", noted)
    images = np.zeros((8, 4, 4, 3), np.uint8)
    batches = autoshot.sample_batches(images, np.zeros((8, 4, 4, 2), np.uint8), 4, 0)
    for _ in range(3):
        next(batches)
    time.sleep(0.1)  # For what is read in the background.
    assert 3 * 4 <= len(read) <= 6 * 4
