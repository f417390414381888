"""Protocols measure what they say, on every image once, and put it beneath the published rows."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from sklearn.linear_model import LinearRegression

from ganseg_jax.data.pipeline import Split
from ganseg_jax.errors import UserError
from ganseg_jax.evaluation import figures as measures
from ganseg_jax.evaluation import landmark_measures, later_work, protocols, published, segmented
from ganseg_jax.report.measures import MEASURES
from ganseg_jax.report.tables import plain_table

ROOT = Path(__file__).parents[2]
SIZE, PARTS = 16, 3


def scene(seed, count, landmark_count=5, parts=PARTS):
    """A split whose images carry their labels in the red channel: one square for each part."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, SIZE, SIZE), np.int32)
    corners = rng.integers(0, SIZE - 4, (count, parts, 2))
    for image in range(count):
        for part in range(parts):
            row, col = corners[image, part]
            labels[image, row : row + 4, col : col + 4] = part + 1
    images = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    images[..., 0] = labels * 40
    mixing = np.random.default_rng(7).uniform(0, 1 / parts, (landmark_count, parts))
    points = np.einsum("lk,nkd->nld", mixing, corners + 2.0) + rng.normal(0, 0.2, (count, 1, 2))
    return Split(
        images=images,
        names=[f"{i}.png" for i in range(count)],
        segmentation=labels,
        landmarks=points.astype(np.float32),
        visible=rng.uniform(size=(count, landmark_count)) < 0.8,
    )


def perfect(images):
    """Reads the labels back; checks that every batch has the same size."""
    assert len(images) == 4
    return np.eye(PARTS + 1, dtype=np.float32)[images[..., 0] // 40]


def one_part(images):
    return np.eye(2, dtype=np.float32)[(images[..., 0] > 0).astype(int)]


def test_segment_sees_every_image_once_in_batches_of_one_size():
    split = scene(0, 10)
    found = segmented.segment(perfect, split.images, batch_size=4)
    np.testing.assert_array_equal(found.labels, split.segmentation)
    assert found.centers.shape == (10, PARTS, 2) and found.num_classes == PARTS + 1


def test_segment_refuses_what_is_no_segmentation():
    images = scene(0, 3).images
    with pytest.raises(ValueError, match="no images"):
        segmented.segment(perfect, images[:0], 4)
    with pytest.raises(ValueError, match=r"\(4, 8, 8, 2\)"):
        segmented.segment(lambda batch: np.zeros((4, 8, 8, 2)), images, 4)


def test_people_parts_by_scikit_learn():
    split = scene(1, 10)
    figures = protocols.get_protocol("people_parts").measure(perfect, {"test": split}, 4)
    values, counts = protocols.split_counts(figures)
    assert values == {name: pytest.approx(1) for name in values} and len(values) == 5
    assert counts == dict.fromkeys(values, 10)
    rough = protocols.get_protocol("people_parts").measure(one_part, {"test": split}, 4)
    pred = (split.segmentation > 0).ravel()
    truth = split.segmentation.ravel()
    assert rough["part_nmi"] == pytest.approx(metrics.normalized_mutual_info_score(truth, pred))
    assert rough["part_ari"] == pytest.approx(metrics.adjusted_rand_score(truth, pred))
    assert rough["foreground_iou"] == 1 and rough["foreground_nmi"] == 0


def test_images_without_ground_truth_are_left_out():
    split = scene(2, 10)
    split.segmentation[3:7] = -1
    figures = protocols.get_protocol("people_parts").measure(perfect, {"test": split}, 4)
    assert figures["foreground_iou"] == 1 and figures["foreground_iou_count"] == 6


def test_pixels_without_ground_truth_are_left_out():
    split = scene(2, 10)
    whole = protocols.get_protocol("people_parts").measure(perfect, {"test": split}, 4)
    split.segmentation[:, :3] = -1
    figures = protocols.get_protocol("people_parts").measure(perfect, {"test": split}, 4)
    assert figures["foreground_iou"] == 1 and figures["part_nmi"] == pytest.approx(1)
    assert figures.keys() == whole.keys() and figures["foreground_iou_count"] == 10


def test_foreground_protocols_report_the_foreground_only():
    split = scene(3, 5)

    def empty(images):
        return np.eye(2, dtype=np.float32)[np.zeros(images.shape[:3], int)]

    for name in ("cub_foreground", "flowers_foreground"):
        figures = protocols.get_protocol(name).measure(empty, {"test": split}, 4)
        assert figures == {"foreground_iou": 0.0, "foreground_iou_count": 5}


def expected_error(train, test, bias, normalizer):
    """The protocol by scikit-learn, landmarks one by one on the images that show them."""
    fit = segmented.segment(perfect, train.images, 4).centers.reshape(len(train), -1)
    held = segmented.segment(perfect, test.images, 4).centers.reshape(len(test), -1)
    errors = []
    for index in range(train.landmarks.shape[1]):
        seen, shown = train.visible[:, index], test.visible[:, index]
        model = LinearRegression(fit_intercept=bias).fit(fit[seen], train.landmarks[seen, index])
        distance = model.predict(held[shown]) - test.landmarks[shown, index]
        errors.append(np.linalg.norm(distance, axis=1) / normalizer[shown])
    return np.concatenate(errors).mean()


@pytest.mark.parametrize("name,fit", [("cub_landmarks", "train"), ("puppets_parts", "validation")])
def test_landmarks_by_the_image_s_edge(name, fit):
    splits = {fit: scene(4, 40), "test": scene(5, 11)}
    figures = protocols.get_protocol(name).measure(perfect, splits, 4)
    edge = np.full(11, float(SIZE))
    for suffix, bias in (("", False), ("_bias", True), ("_standardized", True)):
        expected = expected_error(splits[fit], splits["test"], bias, edge)
        assert figures["landmark_error" + suffix] == pytest.approx(expected, rel=1e-6)
    assert figures["landmark_error_count"] == 11 and figures["foreground_iou"] == 1
    assert 0 < figures["landmark_nmi"] <= 1


def all_visible(split):
    split.visible[:] = True
    return split


def test_celeba_landmarks_by_the_eyes():
    splits = {
        "landmark_train": all_visible(scene(6, 40)),
        "landmark_test": all_visible(scene(7, 9)),
    }
    figures = protocols.get_protocol("celeba_landmarks").measure(perfect, splits, 4)
    points = splits["landmark_test"].landmarks
    eyes = np.linalg.norm(points[:, 0].astype(float) - points[:, 1], axis=-1)
    expected = expected_error(splits["landmark_train"], splits["landmark_test"], False, eyes)
    assert figures["landmark_error"] == pytest.approx(expected, rel=1e-6)
    assert figures["landmark_error_count"] == 9


def test_faces_are_tested_on_both_sets():
    splits = {
        "train": all_visible(scene(8, 40)),
        "landmark_test": all_visible(scene(9, 9)),
        "test": all_visible(scene(10, 7)),
    }
    figures = protocols.get_protocol("faces_landmarks").measure(perfect, splits, 4)
    assert figures["landmark_error_count"] == 9 and figures["aflw/landmark_error_count"] == 7
    assert figures["landmark_error"] != figures["aflw/landmark_error"]


def test_taichi_error_is_in_pixels_of_the_published_frames():
    splits = {"landmark_train": scene(11, 60, 18), "test": scene(12, 20, 18)}
    figures = protocols.get_protocol("taichi").measure(perfect, splits, 4)
    fit = segmented.segment(perfect, splits["landmark_train"].images, 4).centers.reshape(60, -1)
    held = segmented.segment(perfect, splits["test"].images, 4).centers.reshape(20, -1)
    total = 0.0
    for index in range(18):
        for axis in range(2):
            seen = splits["landmark_train"].visible[:, index]
            shown = splits["test"].visible[:, index]
            target = splits["landmark_train"].landmarks[seen, index, axis] * 256 / SIZE
            model = LinearRegression().fit(fit[seen], target)
            truth = splits["test"].landmarks[shown, index, axis] * 256 / SIZE
            total += np.abs(model.predict(held[shown]) - truth).mean()
    assert figures["taichi_mae"] == pytest.approx(total, rel=1e-6)
    assert figures["foreground_iou"] == 1 and figures["taichi_mae_count"] == 20
    data = [
        (found * 256 / SIZE, split.landmarks * 256 / SIZE, split.visible)
        for found, split in (
            (fit.reshape(60, -1, 2), splits["landmark_train"]),
            (held.reshape(20, -1, 2), splits["test"]),
        )
    ]
    mean = landmark_measures.centred_error(*data[0], *data[1], edge=256)
    assert figures["taichi_keypoint_error"] == pytest.approx(mean, rel=1e-6)
    assert figures["taichi_renormalised"] == pytest.approx(18 * mean, rel=1e-6)


def with_boxes(split):
    boxes = np.tile(np.float32([1, 2, SIZE - 3, SIZE - 5]), (len(split), 1))
    return dataclasses.replace(split, boxes=boxes)


def test_birds_by_their_boxes_and_parts_at_landmarks():
    splits = {"train": with_boxes(scene(20, 50)), "test": with_boxes(scene(21, 12))}
    figures = protocols.get_protocol("cub_keypoints").measure(perfect, splits, 4)
    fit = segmented.segment(perfect, splits["train"].images, 4)
    held = segmented.segment(perfect, splits["test"].images, 4)
    data = [
        (found.centers, split.landmarks, split.visible, split.boxes)
        for found, split in ((fit, splits["train"]), (held, splits["test"]))
    ]
    assert figures["box_error"] == landmark_measures.box_error(*data[0], *data[1])
    # Parts that others cover are not in an image.
    assert not (fit.peaks > 0.5).all() or figures["box_error_present"] == figures["box_error"]
    assert figures["box_error_count"] == 12 and 0 < figures["landmark_error"] < 1
    with pytest.raises(UserError, match="no bounding boxes"):
        splits["test"] = scene(21, 12)
        protocols.get_protocol("cub_keypoints").measure(perfect, splits, 4)


def test_agreement_at_landmarks_with_and_without_the_background():
    """A network that thinks background everywhere but still tells parts apart."""
    split = scene(22, 12)

    def shy(images):
        probabilities = 0.1 * np.eye(PARTS + 1, dtype=np.float32)[images[..., 0] // 40]
        probabilities[..., 0] = 0.5
        return probabilities

    found = segmented.segment(shy, split.images, 4)
    assert not found.labels.any()
    values = measures.landmark_agreement(found, split)
    assert values["landmark_nmi"] == 0 and values["landmark_ari"] == 0
    image, landmark = np.nonzero(split.visible)
    row, col = np.floor(split.landmarks[image, landmark]).astype(int).T
    inside = (0 <= row) & (row < SIZE) & (0 <= col) & (col < SIZE)
    # Without any evidence the first part is taken.
    parts = np.maximum(split.segmentation[image, row.clip(0, 15), col.clip(0, 15)], 1)
    expected = metrics.normalized_mutual_info_score(landmark[inside], parts[inside])
    assert values["landmark_fg_nmi"] == pytest.approx(expected)
    expected = metrics.adjusted_rand_score(landmark[inside], parts[inside])
    assert values["landmark_fg_ari"] == pytest.approx(expected)


def test_birds_of_three_categories():
    splits = {"train": scene(23, 40)} | {f"test_00{i}": scene(23 + i, 7 + i) for i in (1, 2, 3)}
    figures = protocols.get_protocol("cub_categories").measure(perfect, splits, 4)
    edge = np.full(9, float(SIZE))
    expected = expected_error(splits["train"], splits["test_002"], False, edge)
    assert figures["002/landmark_error"] == pytest.approx(expected, rel=1e-6)
    assert figures["003/landmark_error_count"] == 10


def test_clothing_inside_the_person_takes_parts_alone():
    split = scene(29, 8)

    def shy(images):
        probabilities = 0.1 * np.eye(PARTS + 1, dtype=np.float32)[images[..., 0] // 40]
        probabilities[..., 0] = 0.5
        return probabilities

    figures = protocols.get_protocol("deepfashion_parts").measure(shy, {"test": split}, 4)
    assert figures["parts_nmi"] == pytest.approx(1) and figures["parts_ari"] == pytest.approx(1)
    assert figures["foreground_nmi"] == 0 and figures["part_ari"] == 0
    assert figures["parts_nmi_count"] == 8


def test_flowers_over_all_pixels():
    split = scene(26, 6)
    figures = protocols.get_protocol("flowers_pixels").measure(
        lambda images: np.roll(perfect(images), 1, axis=1), {"train": split}, 4
    )
    truth, found = split.segmentation > 0, np.roll(split.segmentation > 0, 1, axis=1)
    for name, a, b in (("pixel_iou", found, truth), ("background_pixel_iou", ~found, ~truth)):
        assert figures[name] == pytest.approx(metrics.jaccard_score(b.ravel(), a.ravel()))
    assert "flowers_pixels" not in protocols.fit_protocols("flowers")


def test_deepfashion_counts_landmarks_within_six_of_256_pixels():
    splits = {"train": all_visible(scene(27, 40)), "test": all_visible(scene(28, 9))}
    figures = protocols.get_protocol("deepfashion_keypoints").measure(perfect, splits, 4)
    fit = segmented.segment(perfect, splits["train"].images, 4).centers.reshape(40, -1)
    held = segmented.segment(perfect, splits["test"].images, 4).centers.reshape(9, -1)
    model = LinearRegression(fit_intercept=False).fit(
        fit, splits["train"].landmarks.reshape(40, -1)
    )
    distance = model.predict(held).reshape(9, -1, 2) - splits["test"].landmarks
    close = np.linalg.norm(distance * 256 / SIZE, axis=-1) < 6
    assert 0 < figures["pck"] < 1 and figures["pck"] == pytest.approx(close.mean())


def test_a_folder_reports_what_its_ground_truth_allows():
    measure = protocols.get_protocol("image_folder").measure
    full = scene(13, 60)
    both = measure(perfect, {"test": full}, 4)
    assert {"foreground_iou", "part_nmi", "landmark_error", "landmark_nmi"} <= set(both)
    assert 0 < both["landmark_error_bias"] < 0.2
    bare = Split(images=full.images, names=full.names)
    assert measure(perfect, {"test": bare}, 4) == {}
    binary = Split(full.images, full.names, segmentation=(full.segmentation > 0).astype(np.int32))
    assert set(measure(perfect, {"test": binary}, 4)) == {"foreground_iou", "foreground_iou_count"}
    few = measure(perfect, {"test": scene(14, 12)}, 4)
    assert "landmark_nmi" in few and "landmark_error" not in few


def test_a_split_without_the_ground_truth_needed_is_named():
    bare = Split(images=scene(0, 4).images, names=list("abcd"))
    with pytest.raises(UserError, match="'test' has no label maps"):
        protocols.get_protocol("people_parts").measure(perfect, {"test": bare}, 4)
    with pytest.raises(UserError, match="'landmark_train' has no landmarks"):
        splits = {"landmark_train": bare, "landmark_test": bare}
        protocols.get_protocol("celeba_landmarks").measure(perfect, splits, 4)


def test_protocols_are_found_by_data_set():
    assert protocols.fit_protocols("cub") == ["cub_foreground", "cub_landmarks"]
    assert protocols.fit_protocols("celeba_wild") == ["celeba_landmarks"]
    assert protocols.fit_protocols("puppets") == ["puppets_parts"]
    assert protocols.fit_protocols("horses_weizmann") == ["image_folder"]
    with pytest.raises(UserError, match="no protocol 'cubs'; known are celeba_landmarks"):
        protocols.get_protocol("cubs")


def test_our_row_stands_between_the_published_rows_and_later_ones():
    protocol = protocols.get_protocol("celeba_landmarks")
    figures = {"landmark_error": 0.0601, "landmark_error_bias": 0.0555}
    references = {"mean_landmarks": {"landmark_error": 0.9}}
    table = protocol.rows(figures, "celeba_wild", 8, references)
    caption, header, rows = table
    assert header == ["Method", "aligned, K = 10", "wild, K = 4", "wild, K = 8"]
    assert rows[-5:] == [
        ["GANSeg", 3.98, 12.26, 6.18],
        ["* ganseg_jax (K = 8)", None, None, 6.01],
        ["* ganseg_jax, with a constant", None, None, 5.55],
        ["reference: mean landmarks", None, None, 90.0],
        ["AutoLink (pretrained VGG in the loss)", 3.54, 6.11, 5.24],
    ]
    text = plain_table(table).splitlines()
    assert text[0] == caption and len({line.index("6.01") for line in text if "6.01" in line}) == 1
    assert text[-4].split() == ["*", "ganseg_jax", "(K", "=", "8)", "-", "-", "6.01"]


def test_later_rows_say_why_they_are_not_comparable():
    protocol = protocols.get_protocol("cub_keypoints")
    caption, _, rows = protocol.rows({"landmark_fg_nmi": 0.3}, "cub_official", 8)
    assert rows[0][:3] == ["* ganseg_jax (K = 8)", None, 30.0]
    assert rows[1][0] == "Unsup-Parts, K = 4 (foreground masks) [1]"
    assert rows[2][0] == "MPAE, K = 16 (pretrained backbone)"
    assert "[1] not comparable: the FG figures are of photos cut out" in caption


def test_another_number_of_parts_gets_a_column_of_its_own():
    protocol = protocols.get_protocol("taichi")
    _, header, rows = protocol.rows({"taichi_mae": 400.0, "foreground_iou": 0.8}, "taichi", 5)
    assert header[-2:] == ["MAE, K = 5", "IoU, K = 5"]
    assert rows[-2] == ["* ganseg_jax (K = 5)", None, None, None, 400.0, 0.8]
    assert rows[-1][1:] == [None, None, 234.89, None, None]
    assert rows[0] == ["DFF", 494.48, None, None, None, None]
    assert protocols.get_protocol("people_parts").rows({}, "people_ccp", 8) is None


@pytest.mark.parametrize(
    "table",
    [
        *(p.table for p in protocols.PROTOCOLS.values() if p.table not in (None, published.TAICHI)),
        published.TAICHI,
        published.FID,
        *published.ABLATIONS.values(),
    ],
    ids=lambda table: table.caption,
)
def test_published_tables_are_complete(table):
    assert all(len(values) == len(table.columns) for _, values in table.rows)
    assert all(len(row.values) == len(table.columns) for row in table.later)
    assert {row.work for row in table.later} <= set(later_work.WORKS)
    known = {figure for figure, measure in MEASURES.items() if measure.title}
    suffixes = {column.figure.rpartition("/")[2] for column in table.columns}
    assert suffixes <= known
    assert len(plain_table(table.with_own({}, "cub", 8)).splitlines()) >= 2


def test_the_documentation_names_every_protocol_and_every_work():
    text = " ".join((ROOT / "docs/protocols.md").read_text().split())
    for protocol in protocols.PROTOCOLS.values():
        assert f"| `{protocol.name}` |" in text, protocol.name
        assert protocol.definition in text and protocol.used_by in text, protocol.name
        assert all(f"`{dataset}`" in text for dataset in protocol.datasets)
    for name, work in later_work.WORKS.items():
        row = f"| {name} | {work.supervision} | {work.licence} | {work.source} |"
        assert row in text, row
