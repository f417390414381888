"""Models on a hub: pushed, found, opened as what was pushed; mistakes in one line."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import ganseg_jax
from ganseg_jax import hub as product
from ganseg_jax import packed, parts
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.push import push
from tests.export.photos import photos

ROOT = pathlib.Path(__file__).parents[2]
PLACE = "hf://ann/people"


def again():
    """As another process would be."""
    product.fetch.cache_clear()


def files_of(hub, name="ann/people"):
    found = hub.repositories[name]
    return found.commits[found.branches["main"]]


@pytest.fixture
def undrawn(monkeypatch):
    """Draws a grey picture, since the generator takes long to compile."""
    grey = np.full((8, 8, 3), 128, np.uint8)
    monkeypatch.setattr("ganseg_jax.jobs.push.draw_picture", lambda *_: grey)


@pytest.fixture
def published(hub, undrawn):
    """The model of people, pushed."""
    push("people", "ann/people")
    hub.asked.clear()


def test_what_is_pushed_opens_elsewhere_with_the_same_labels(hub, workdir, monkeypatch):
    names = [parts.Part(f"thing {i}", color="#ff0080" if i == 1 else "") for i in range(1, 4)]
    file = parts.write(workdir, names)
    try:
        segmenter = ganseg_jax.load_segmenter(workdir, engine="jax")
        pushed = push(workdir, "ann/people", licence="CC BY 4.0")
    finally:
        file.unlink()
    assert pushed.address == f"{hub.url}/ann/people"
    there = files_of(hub)
    assert set(there) == {
        *(".gitattributes", "README.md", "config.json", "parts.json", "samples.png"),
        *("segmenter.onnx", "weights.safetensors"),
    }
    assert pushed.sizes == {n: len(d) for n, d in there.items() if n != ".gitattributes"}
    card = there["README.md"].decode()
    front = "---\nlibrary_name: ganseg_jax\npipeline_tag: image-segmentation\n"
    assert card.startswith(f"{front}license: cc-by-4.0\ntags:\n- image-segmentation\n")
    for text in ('load_segmenter("hf://ann/people")', "](samples.png)", "| 1 | thing 1 |"):
        assert text in card
    monkeypatch.delenv("HF_TOKEN")  # It is public.
    images = photos(3, 40, 23)
    loaded = ganseg_jax.load_segmenter(PLACE, engine="jax")
    np.testing.assert_array_equal(loaded.probabilities(images), segmenter.probabilities(images))
    assert loaded.classes == ("background", "thing 1", "thing 2", "thing 3")
    np.testing.assert_array_equal(loaded.colors[1], [255, 0, 128])
    module, _ = ganseg_jax.load_generator(PLACE)
    assert module == ganseg_jax.load_generator(workdir)[0]
    # Names that a person gives here stay here, and leave the cache alone.
    own = parts.write(PLACE, [parts.Part("mine"), *names[1:]])
    assert own.is_relative_to(os.environ["XDG_DATA_HOME"])
    assert ganseg_jax.load_segmenter(PLACE).classes[1] == "mine"


def test_a_few_shot_network_has_no_generator_but_its_classes(hub, workdir, few_shot):
    push(workdir / few_shot, "ann/shapes")
    assert {"samples.png", "parts.json"}.isdisjoint(files_of(hub, "ann/shapes"))
    assert "samples.png" not in files_of(hub, "ann/shapes")["README.md"].decode()
    loaded = ganseg_jax.load_segmenter("hf://ann/shapes", engine="jax")
    expected = ganseg_jax.load_segmenter(workdir / few_shot, engine="jax")
    images = photos(2, 20, 30)
    assert loaded.classes == ("background", "round", "long")
    np.testing.assert_array_equal(loaded(images), expected(images))
    with pytest.raises(UserError, match="is a few-shot result, which draws nothing"):
        ganseg_jax.load_generator("hf://ann/shapes")


def test_commands_in_processes_of_their_own(hub, workdir, tmp_path):
    from PIL import Image

    Image.fromarray(photos(1, 50, 30)[0]).save(tmp_path / "a.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}

    def ganseg(*arguments, **more):
        command = [sys.executable, "-m", "ganseg_jax.cli.ganseg", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment | more
        )

    made = ganseg("push", str(workdir), "ann/people", "--private")
    assert made.returncode == 0, made.stderr
    assert f"{hub.url}/ann/people: `ganseg segment PHOTOS --model={PLACE}`" in made.stderr
    assert hub.repositories["ann/people"].private
    for out, place, more in (("own", workdir, {}), ("theirs", PLACE, {}), ("off", PLACE, {})):
        if out == "off":
            more = {"HF_HUB_OFFLINE": "1", "HF_TOKEN": ""}
        ran = ganseg("segment", "a.png", f"--model={place}", f"--out={out}", **more)
        assert ran.returncode == 0, ran.stderr
        assert "Traceback" not in ran.stderr
    own = (tmp_path / "own" / "labels" / "a.png").read_bytes()
    assert own == (tmp_path / "theirs" / "labels" / "a.png").read_bytes()
    assert own == (tmp_path / "off" / "labels" / "a.png").read_bytes()
    refused = ganseg("info", PLACE, HF_TOKEN="", HF_HOME=str(tmp_path / "other"))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert f"error: {PLACE} is not there, or it is private" in refused.stderr


def test_what_is_known_of_a_model_goes_with_it(hub, undrawn):
    push("people", "ann/people")
    assert packed.about(PLACE) == packed.about("people")
    assert '"foreground_iou": 0.78' in files_of(hub)["metrics.json"].decode()
    assert "license: mit" in files_of(hub)["README.md"].decode()


def test_fetched_once_and_then_from_the_cache(hub, published, monkeypatch):
    from huggingface_hub import constants

    first = packed.find(PLACE)
    assert packed.find(PLACE) == first and sum("HEAD" in asked for asked in hub.asked) <= 6
    for name in ("README.md", "samples.png", "segmenter.onnx"):
        assert not (first / name).exists()
    again()
    hub.asked.clear()
    assert packed.find(PLACE) == first
    assert hub.asked == ["HEAD /ann/people/resolve/main/config.json"]
    hub.down = True  # What is in the cache is good enough.
    again()
    assert packed.find(PLACE) == first
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again()
    assert packed.find(PLACE) == first and not hub.asked
    with pytest.raises(UserError, match="is not in the cache, and HF_HUB_OFFLINE forbids"):
        packed.find("hf://ann/horses")


def test_a_revision_is_what_it_was(hub, published):
    commit = hub.repositories["ann/people"].branches["main"]
    hub.repositories["ann/people"].branches["v1"] = commit
    before = packed.find("hf://ann/people@v1")
    file = parts.write("people", [parts.Part("other")] + [parts.Part()] * 5)
    push("people", "ann/people")
    file.unlink()
    assert parts.read(PLACE, 6)[0].name == "other"
    again()
    assert packed.find("hf://ann/people@v1") == before == packed.find(f"{PLACE}@{commit}")
    assert parts.read(f"{PLACE}@v1", 6) is None
    push("people", "ann/people")  # Without names, which then must be gone there.
    assert "parts.json" not in files_of(hub) and parts.read(PLACE, 6) is None


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_file_that_was_damaged_is_not_opened(hub, published, name):
    path = packed.find(PLACE) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    pathlib.Path(os.path.realpath(path)).write_bytes(data)
    again()
    with pytest.raises(UserError, match=rf"{name} is not what was published.*: remove .*blobs"):
        ganseg_jax.load_segmenter(PLACE)
    pathlib.Path(os.path.realpath(path)).unlink()
    again()
    ganseg_jax.load_segmenter(PLACE)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("hf://people", "hf://people: give hf://owner/name or hf://owner/name@revision"),
        ("hf://ann/people/weights", "give hf://owner/name"),
        ("hf://ann/people@", "give hf://owner/name"),
        ("hf://ann/nothing", "hf://ann/nothing is not there, or it is private: see http.*nothing"),
        ("hf://ann/people@v9", "has no revision 'v9': see http.*/ann/people/tree/main"),
        (
            "hf://ann/other",
            "hf://ann/other is no model of ganseg_jax: its config.json is another's",
        ),
        ("hf://ann/empty", "hf://ann/empty is no model of ganseg_jax: it has no config.json"),
        ("hf://ann/half", "is no model of ganseg_jax: it has no weights.npz or weights.safetens"),
        (
            "hf://ann/gated",
            "is gated: accept its terms at http.*/ann/gated and run `hf auth login`",
        ),
        ("hf://ann/secret", "hf://ann/secret is not there, or it is private"),
        ("hf://ann/code", r"weights.npz .*cannot be read|Object arrays|pickle"),
    ],
)
def test_mistakes_in_names(hub, published, monkeypatch, place, message):
    from tests.hub.stand_in import Repository

    for name in ("other", "empty", "half", "gated", "secret", "code"):
        hub.repositories[f"ann/{name}"] = Repository(private=name == "secret")
    ours = dict(files_of(hub))
    pickled = dangerous()
    hub.repositories["ann/other"].commit({"config.json": b'{"model_type": "bert"}'})
    hub.repositories["ann/half"].commit({"config.json": ours["config.json"]})
    hub.repositories["ann/gated"].commit(ours)
    hub.repositories["ann/gated"].gated = True
    hub.repositories["ann/code"].commit(
        {"config.json": ours["config.json"], "weights.npz": pickled}
    )
    monkeypatch.setenv("HF_TOKEN", "bob-writes")
    with pytest.raises(UserError, match=message) as caught:
        ganseg_jax.load_segmenter(place)
    assert "\n" not in str(caught.value) and not RAN


RAN = []


class Dangerous:
    def __reduce__(self):
        return RAN.append, (1,)


def dangerous():
    """An archive of arrays whose pickled objects run something."""
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **{"segmenter.params/a": np.array([Dangerous()], object)})
    return buffer.getvalue()


def test_hubs_that_refuse_or_are_not_there(hub, published, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", "nobody's")
    with pytest.raises(UserError, match="cannot be had with this token, which http.* refuses"):
        packed.find(PLACE)
    with pytest.raises(UserError, match="cannot be had with this token"):
        push("people", "ann/people")
    monkeypatch.setenv("HF_TOKEN", "ann-reads")
    with pytest.raises(UserError, match="ann/new may not be read or written with this token"):
        push("people", "ann/new")
    monkeypatch.setenv("HF_TOKEN", "bob-writes")
    with pytest.raises(UserError, match="may not be read or written with this token: make one at"):
        push("people", "ann/people")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="pushing needs a token that may write: run `hf auth log"):
        push("people", "ann/people")
    monkeypatch.setattr("time.sleep", lambda _: None)  # It asks six times.
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="cache, and http://127.0.0.1:9 cannot be reached"):
        packed.find(PLACE)


def test_a_hub_without_xet_says_how_to_do_without(hub, undrawn, monkeypatch):
    from huggingface_hub import constants

    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    try:
        push("people", "ann/people")
    except UserError as error:
        assert "which may not know it: set HF_HUB_DISABLE_XET=1" in str(error)
    else:  # Before version 2 the library asks the hub what it takes.
        assert "weights.safetensors" in files_of(hub)


def test_what_push_does_not_touch(hub, published, tmp_path):
    from tests.hub.stand_in import Repository

    sent = list(hub.asked)
    tried = push("people", "ann/never", dry_run=True)
    assert tried.address == "" and "weights.safetensors" in tried.sizes
    assert hub.asked == sent and "ann/never" not in hub.repositories
    hub.repositories["ann/book"] = Repository(private=False)
    hub.repositories["ann/book"].commit({"chapter.txt": b"once", "README.md": b"a book"})
    with pytest.raises(UserError, match=r"/ann/book holds something else \(chapter.txt\)"):
        push("people", "ann/book")
    assert files_of(hub, "ann/book")["README.md"] == b"a book"
    with pytest.raises(UserError, match="/ann/people is public already: see .*/settings"):
        push("people", "ann/people", private=True)
    with pytest.raises(UserError, match="a model is pushed to owner/name, without a revision"):
        push("people", "ann/people@v1")
    with pytest.raises(UserError, match="nothing was trained there"):
        push(tmp_path, "ann/people")


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        UserError, match=r'hf:// needs huggingface_hub: pip install "ganseg-jax\[hu'
    ):
        packed.find("hf://ann/never-asked-for")
