"""Which image an annotation is of, by all that tools write as its name."""

import pytest

from ganseg_jax.data.annotations.names import Names
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot.label_files import short_names

NESTED = ("a/x.jpg", "b/x.jpg", "b/y.jpg")
TWINS = ("x.jpg", "x.png")


@pytest.mark.parametrize(
    ("images", "file", "name", "expected"),
    [
        # From the folder, from one above or below it, and from another machine.
        (NESTED, "c.json", "a/x.jpg", "a/x.jpg"),
        (NESTED, "c.json", "./b/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "photos/b/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "b\\x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "D:\\set 7\\b\\x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "/home/ann/images/train/a/x.jpg", "a/x.jpg"),
        (NESTED, "c.json", "images/b/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "b/images/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "file:///d/b/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "https://host:1/d/b/x.jpg?size=3#t", "b/x.jpg"),
        (NESTED, "c.json", "/data/local-files/?d=b/x.jpg", "b/x.jpg"),
        (NESTED, "c.json", "/data/local-files/?d=set%207%2Fb%2Fx.jpg", "b/x.jpg"),
        (NESTED, "c.json", "/data/upload/1/5b2f01aa-y.jpg", "b/y.jpg"),
        (("train/a/x.jpg", "train/b/x.jpg"), "c.json", "a/x.jpg", "train/a/x.jpg"),
        (("x.jpg", "a/x.jpg"), "c.json", "x.jpg", "x.jpg"),
        (("x.jpg", "a/x.jpg"), "c.json", "/mnt/set/x.jpg", "x.jpg"),
        (("x.jpg", "a/x.jpg"), "c.json", "/mnt/set/a/x.jpg", "a/x.jpg"),
        # The folder of the annotation file, or one above it.
        (NESTED, "b/via.json", "x.jpg", "b/x.jpg"),
        (NESTED, "b/labels/via.json", "x.jpg", "b/x.jpg"),
        (NESTED, "labels/b/via.json", "../../a/x.jpg", "a/x.jpg"),
        (("train/images/x.jpg", "valid/images/x.jpg"), "valid/c.json", "x.jpg", 1),
        (("train/p/x.jpg", "valid/q/x.jpg"), "valid/anno/c.json", "x.jpg", 1),
        # Endings.
        (TWINS, "c.json", "x.png", "x.png"),
        (TWINS, "c.json", "X/x.JPG", "x.jpg"),
        (("x.JPG", "x.png"), "c.json", "x.jpg", "x.JPG"),
        (("x.JPG", "x.jpg"), "c.json", "x.jpg", "x.jpg"),
        (("a/x.png", "b/x.jpg"), "c.json", "a/x.jpg", "a/x.png"),
        (("a/x.jpg", "a/x.png", "b/x.jpg"), "c.json", "a/x.png", "a/x.png"),
        (("x.jpg.png", "x.png"), "c.json", "x.jpg", "x.jpg.png"),
        (("x.v2.jpg", "x.jpg"), "c.json", "x.v2", "x.v2.jpg"),
        (("x.jpg",), "c.json", "x.dng", "x.jpg"),
        (("x.jpg",), "c.json", "x.v2", None),
        (("x.jpg",), "c.json", " x.jpg ", "x.jpg"),
        # Hashes of tools, spaces, accents and signs.
        (TWINS, "c.json", "x_png.rf.5B2f01.jpg", "x.png"),
        (TWINS, "c.json", "5b2f01aa-x.png", "x.png"),
        (("x.jpg", "5b2f01aa-x.jpg"), "c.json", "x.jpg", "x.jpg"),
        (("x.jpg", "a/x.jpg"), "a/c.json", "images/5b2f01aa-x.jpg", "a/x.jpg"),
        (("my photo (1).jpg",), "c.json", "/data/upload/3/5b2f01aa-my_photo_1.jpg", 0),
        (("my photo.jpg", "my.jpg"), "c.json", "my%20photo.jpg", "my photo.jpg"),
        (("100%25.jpg", "100%.jpg"), "c.json", "100%25.jpg", "100%25.jpg"),
        (("a/x#1.jpg", "a/x.jpg"), "c.json", "/d/a/x#1.jpg", "a/x#1.jpg"),
        (("caf\u00e9/\u00e9.jpg", "b/\u00e9.jpg"), "c.json", "cafe\u0301/e\u0301.jpg", 0),
        (("IMG_1.jpg",), "c.json", "img_1.jpg", "IMG_1.jpg"),
        (("img-1-1.jpg",), "c.json", "img-11.jpg", None),
        (NESTED, "c.json", "z.jpg", None),
        (NESTED, "c.json", "", None),
        (NESTED, "c.json", "a/", None),
    ],
)
def test_a_name_is_of_the_image_that_it_says(images, file, name, expected, tmp_path):
    expected = images[expected] if isinstance(expected, int) else expected
    root = tmp_path / "photos"
    for order in (images, images[::-1]):
        assert Names(order, root).find(name, root / file) == expected


@pytest.mark.parametrize(
    ("images", "file", "name", "message"),
    [
        (NESTED, "c.json", "x.jpg", r"'x.jpg' may be .*/p/a/x.jpg or .*/p/b/x.jpg: .*'a/x.jpg'"),
        (NESTED, "c.json", "/data/upload/1/5b2f01aa-x.jpg", "may be .*a/x.jpg or .*b/x.jpg"),
        (("x.jpg", "a/x.jpg"), "c.json", "/data/upload/1/5b2f01aa-x.jpg", "may be"),
        (("x.jpg", "a/x.jpg"), "c.json", "images/5b2f01aa-x.jpg", "may be"),
        (TWINS, "c.json", "x", r"'x' may be .*x.jpg or .*x.png: write it with its ending, .*'x.jp"),
        (TWINS, "c.json", "x.tif", "with its ending"),
        # Its whole name is elsewhere, and at its place only another ending.
        (("x.png", "a/x.jpg"), "c.json", "x.jpg", "may be .*x.png or .*a/x.jpg"),
        (("a/x.jpg", "b/x.jpg", "c/x.jpg"), "d.json", "x.jpg", r"\(or 1 more\)"),
        (("A 1/x.jpg", "a-1/x.jpg"), "d.json", "a1/x.jpg", "may be"),
    ],
)
def test_a_name_that_may_be_several_is_refused(images, file, name, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        Names(images, tmp_path / "p").find(name, tmp_path / "p" / file)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("images", "names", "expected"),
    [
        # What begins all names is left out, and names of other images are of none.
        (
            ("x.jpg", "a/x.jpg"),
            ["/mnt/s/x.jpg", "/mnt/s/a/x.jpg", "/mnt/s/b/x.jpg"],
            ["x.jpg", "a/x.jpg", None],
        ),
        (("x.jpg",), ["x.jpg", "a/x.jpg"], ["x.jpg", None]),
        (("x.jpg",), ["x.png", "x.jpg"], [None, "x.jpg"]),
        (("a/x.jpg", "c/y.jpg"), ["a/x.jpg", "b/y.jpg"], ["a/x.jpg", None]),
        (("p/x.jpg", "q/y.jpg"), ["a/x.jpg", "b/y.jpg"], ["p/x.jpg", "q/y.jpg"]),
        (("x.jpg", "a/x.jpg"), ["x.jpg", "a/x.jpg"], ["x.jpg", "a/x.jpg"]),
        (("x.jpg", "y.jpg"), ["images/x.jpg", "more/y.jpg"], ["x.jpg", "y.jpg"]),
        # The folder itself is called set.
        (("a/x.jpg", "y.jpg"), ["a/x.jpg", "set/y.jpg"], ["a/x.jpg", "y.jpg"]),
    ],
)
def test_names_of_a_file_are_understood_together(images, names, expected, tmp_path):
    found = Names(images, tmp_path / "set")
    assert found.find_all(names, tmp_path / "set/c.json") == expected
    # A file in a folder of the images has names from the folder above too.
    if all(expected):
        assert found.find_all(names, tmp_path / "set/a/c.json") == expected


def test_sizes_of_files_tell_images_apart(tmp_path):
    for path, length in (("a/x.jpg", 3), ("b/x.jpg", 5)):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(b"." * length)
    names = Names(["a/x.jpg", "b/x.jpg"], tmp_path)
    found = names.find_all(["x.jpg", "x.jpg"], tmp_path / "via.json", [5, 3])
    assert found == ["b/x.jpg", "a/x.jpg"]
    with pytest.raises(UserError, match="may be"):
        names.find_all(["x.jpg"], tmp_path / "via.json", [4])


@pytest.mark.parametrize(
    ("images", "files", "expected"),
    [
        (NESTED, ["labels/a/x.txt", "labels/b/x.txt"], ["a/x.jpg", "b/x.jpg"]),
        (NESTED, ["yolo/a/x.txt", "yolo/b/x.txt", "yolo/b/y.txt"], list(NESTED)),
        (("a/images/x.jpg", "b/images/x.jpg"), ["b/labels/x.txt"], ["b/images/x.jpg"]),
        (("images/train/x.jpg", "images/val/x.jpg"), ["labels/val/x.txt"], ["images/val/x.jpg"]),
        (("images/train/x.jpg",), ["labels/x.txt"], ["images/train/x.jpg"]),
        (("p/a/x.jpg", "q/b/x.jpg"), ["p/notes/x.txt"], ["p/a/x.jpg"]),
        (TWINS, ["x.png.txt", "labels/x.jpg.txt"], ["x.png", "x.jpg"]),
        (("x.jpg.png", "x.png"), ["x.jpg.txt"], ["x.jpg.png"]),
        (("x.jpg",), ["x.v2.txt", "x.JPG.txt"], [None, "x.jpg"]),
        (("my photo.jpg",), ["5b2f01aa-my_photo.txt"], ["my photo.jpg"]),
        (("a/x.jpg",), ["a/x.txt", "b/x.txt"], ["a/x.jpg", "a/x.txt"]),
        (("x.jpg",), ["x.jpg.txt", "x.png.txt"], ["x.jpg", "x.jpg.txt"]),
        (("a/x.jpg", "c/y.jpg"), ["a/x.txt", "b/y.txt"], ["a/x.jpg", "nothing"]),
        # Each format has its own file.
        (("x.jpg",), ["x.json", "x.jpg.json"], ["x.jpg", "x.jpg"]),
        (TWINS, ["x.json"], [TWINS]),
        (("a/x.jpg", "b/x.jpg"), ["labels/x.txt"], [("a/x.jpg", "b/x.jpg")]),
    ],
)
def test_files_are_of_the_images_that_they_are_named_after(images, files, expected, tmp_path):
    claims = Names(images, tmp_path).of_files([tmp_path / file for file in files])
    for file, right in zip(files, expected, strict=True):
        claim = claims[tmp_path / file]
        if right == "nothing":
            assert claim.images == () and claim.lost == "its image is not there"
        elif right in files:  # It has a better claim.
            assert claim.images == () and claim.lost.endswith(f"labelled by {tmp_path / right}")
        else:
            assert not claim.lost
            assert claim.images == ((right,) if isinstance(right, str) else right or ())


def test_short_names_of_images_are_of_one_image():
    assert short_names(["p/x.jpg", "p/a/x.jpg"]) == {"x": "p/x.jpg", "a/x": "p/a/x.jpg"}
    paths = ["x.jpg", "x.png", "x.jpg.png", "images/one.png", "a/two.jpg", "b/two.jpg", "b/x.tif"]
    named = short_names(paths)
    assert {path: name for name, path in named.items()} == {
        **{"x.jpg": "x.jpg", "x.png": "x.png", "x.jpg.png": "x.jpg.png", "b/x.tif": "b/x"},
        **{"images/one.png": "one", "a/two.jpg": "a/two", "b/two.jpg": "b/two"},
    }
