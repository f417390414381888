"""`ganseg check` and `ganseg train`: what is seen in photos, settings that fit, known failures."""

import dataclasses
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.config import Config, flat, with_fields
from ganseg_jax.config.setting import parsed
from ganseg_jax.data import likeness
from ganseg_jax.errors import UserError
from ganseg_jax.files import check_writable
from ganseg_jax.jobs import budget, check, own_photos, signs, train
from tests.one_stage import ONE_STAGE
from tests.tiny_config import config_with


def photo(seed, height=80, width=60):
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(6):
        photo(seed).save(tmp_path / "photos" / f"{seed}.png")
    photo(0).resize((90, 120)).save(tmp_path / "photos" / "again.jpg", quality=60)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"none")
    photo(9, 300, 60).save(tmp_path / "photos" / "long.png")
    photo(10).point(lambda value: value // 16).save(tmp_path / "photos" / "dark.png")
    return tmp_path / "photos"


def test_a_folder_is_looked_at(folder, tmp_path):
    checked = check.check(folder, progress=False)
    assert len(checked.photos) == 9 and checked.skipped == {"broken.jpg": "not an image"}
    assert checked.duplicates == [["0.png", "again.jpg"]]
    assert checked.layout == "column"
    text = "\n".join(checked.lines(64))
    counted = (
        "9 photos, 0 of them with masks",
        "small: 8 photos",
        "odd: 1 photo",
        "flat: 1 photo",
    )
    for said in (*counted, "few:"):
        assert said in text
    check.save_contact_sheet(checked, tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").width > 8 * check.TILE
    assert json.loads(json.dumps(checked.content()))["photos"]["long.png"] == [300, 60]


def test_an_archive_is_looked_at_like_its_folder(folder, tmp_path):
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(folder, "photos")
    checked = check.check(tmp_path / "photos.tar", progress=False)
    assert len(checked.photos) == 9 and "photos/long.png" in checked.photos
    for name, said in (("none.tar", "does not exist"), ("photos/broken.jpg", "sound tar archive")):
        with pytest.raises(UserError, match=f"{name} .*{said}"):
            check.check(tmp_path / name, progress=False)


def test_near_duplicates_are_grouped_by_way_of_others():
    hashes = np.array([0, 0b11111, 0b1111111111, 2**64 - 1], np.uint64)
    assert likeness.near_duplicates(hashes, 5) == [[0, 1, 2]]
    assert likeness.near_duplicates(hashes, 4) == []
    image = np.asarray(photo(3))
    flipped = image[:, ::-1]
    ones = [likeness.difference_hash(x) for x in (image, np.asarray(photo(3, 160, 120)), flipped)]
    distances = [int(one ^ ones[0]).bit_count() for one in ones]
    assert distances[1] <= likeness.NEAR < distances[2]


SPEED = budget.Speed(
    {"gan": 0.1, "segmenter": 0.2, "self_training": 0.4},
    {"gan": 10.0, "segmenter": 5.0, "self_training": 5.0},
)


def test_steps_fit_the_time():
    base = config_with(gan__num_steps=1000, segmenter__num_steps=200, self_training__num_steps=100)
    base = with_fields(base, {"gan.concentration.decay_until": 600})
    assert sum(SPEED.seconds(base).values()) == pytest.approx(20 + 100 + 40 + 40)
    config, share = budget.fit(base, SPEED, seconds=110 / (1 - budget.SPARE))
    assert share == pytest.approx(0.5)
    assert (config.gan.num_steps, config.segmenter.num_steps) == (500, 100)
    assert config.gan.concentration.decay_until == 300
    assert config.gan.checkpoint_every <= config.gan.num_steps / 5
    most, share = budget.fit(base, SPEED, seconds=1e6)
    assert share > 100 and most.gan.num_steps == 1500


def test_the_largest_size_that_fits_is_taken(monkeypatch):
    base = config_with(gan__num_steps=1000, segmenter__num_steps=200, self_training__num_steps=0)

    def measure(config):
        factor = (config.image_size / 32) ** 2
        updates = {"gan": 0.1 * factor, "segmenter": 0.2 * factor}
        return budget.Speed(updates, {"gan": 0.0, "segmenter": 0.0})

    monkeypatch.setattr(budget, "measure", measure)

    def chosen(minutes):
        build = lambda size: dataclasses.replace(base, image_size=size)  # noqa: E731
        return budget.choose(build, (64, 32), minutes)[0]

    assert chosen(10).image_size == 64
    assert chosen(3).image_size == 32
    with pytest.raises(UserError, match="--minutes=0.1 is too short here: at 32 px give at least"):
        chosen(0.1)


def healthy():
    """Masks of 8 images: three parts in the middle, which move."""
    masks = np.zeros((8, 16, 16, 4), np.float32)
    masks[..., 0] = 0.5
    centers = np.zeros((8, 3, 2), np.float32)
    for i in range(8):
        for part in range(3):
            masks[i, 3 + i % 3 : 12, 3 + 3 * part : 6 + 3 * part, part + 1] = 1
            centers[i, part] = (0.1 * (i % 3), -0.4 + 0.4 * part)
    return masks, centers


def rows(lead):
    return [{"step": step, "real_logit": lead / 2, "fake_logit": -lead / 2} for step in range(9)]


def covering(masks, centers, _):
    masks[..., 2] = 2


def one(masks, centers, _):
    masks[..., 2:] = 0
    masks[:, 7, 7, 2] = 2


def still(masks, centers, _):
    centers[:] = centers[:1]


def won(masks, centers, lead):
    lead[0] = 20.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (None, None),
        (covering, "covers_background"),
        (one, "one_part"),
        (still, "still"),
        (won, "discriminator_won"),
    ],
)
def test_known_failures_are_seen(change, name):
    masks, centers = healthy()
    lead = [1.8]  # As measured for people at 32 px.
    if change:
        change(masks, centers, lead)
    found = signs.signs_of(signs.figures_of(masks, centers, rows(lead[0])), config_with())
    if name is None:
        assert not found
        return
    assert name in [sign.name for sign in found]
    for sign in found:
        changed = with_fields(Config(), sign.fields)
        assert flat(changed) != flat(Config())


@pytest.fixture
def planned(monkeypatch, folder, tmp_path):
    """Runs train_on with stages that train nothing; (calls, run)."""
    calls = []
    monkeypatch.setattr(
        train, "train_stages", lambda c, w, n: (tmp_path / "W" / "gan").mkdir(parents=True)
    )
    monkeypatch.setattr(train, "run_all", lambda config, *_: calls.append(config) or {})
    monkeypatch.setattr(own_photos.begin, "prepare_data", lambda config: None)
    figures = {"border": 0.0, "movement": 0.1, "largest": 0.3, "lead": 1.0}
    monkeypatch.setattr(signs, "look", lambda *_: figures)

    def named(argument):
        size = int(argument.split("size=")[1].split(",")[0])
        return config_with(image_size=size, gan__num_steps=100)

    def run(workdir="W", **asked):
        given = own_photos.Asked(str(folder), **asked)
        return own_photos.train_on(given, tmp_path / workdir, named)

    return calls, run, figures


def test_a_plan_is_kept_and_resumed(planned, tmp_path):
    calls, run, _ = planned
    run(size=16, layout="disc", fields={"gan.batch_size": 4})
    run()
    assert calls[0] == calls[1] and calls[0].gan.batch_size == 4
    asked = own_photos.asked_before(tmp_path / "W")
    assert (asked.size, asked.fields) == (16, {"gan.batch_size": 4})
    assert own_photos.asked_before(tmp_path) is None
    plan = json.loads((tmp_path / "W" / "plan.json").read_text())
    assert plan["looked"] and plan["signs"] == []
    with pytest.raises(UserError, match="begun with size=16, not 32"):
        run(size=32)


def test_a_failing_gan_starts_again_once(planned, tmp_path):
    calls, run, figures = planned
    figures["lead"] = 30.0
    fields = {"gan.learning_rate_discriminator": 4e-4}
    run(size=16, layout="disc", fields=fields)
    run(fields=fields)
    half = 2e-4
    assert [config.gan.learning_rate_discriminator for config in calls] == [half, half]
    assert (tmp_path / "W" / "gan_first_try").is_dir() and not (tmp_path / "W" / "gan").exists()


def test_a_run_that_others_slow_down_keeps_its_time(planned, monkeypatch):
    calls, run, _ = planned
    clock, took = [0.0], [19.0]
    base = config_with(gan__num_steps=100, segmenter__num_steps=200, self_training__num_steps=100)
    monkeypatch.setattr(own_photos.budget, "choose", lambda *_: (base, SPEED))
    monkeypatch.setattr(own_photos, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def train_stages(config, workdir, names):
        clock[0] += took[0] if config.gan.num_steps == 100 else 0.0

    monkeypatch.setattr(train, "train_stages", train_stages)

    def steps(seconds, workdir, **asked):
        clock[0], took[0] = 0.0, seconds
        run(workdir, layout="disc", minutes=3.0, **asked)
        return calls[-1].segmenter.num_steps, calls[-1].self_training.num_steps

    assert steps(19.0, "as_measured") == (200, 100)
    # Twice as slow, which leaves 127.6 s: 10 s of starts and 67 % of 80 s, each twice.
    assert steps(38.0, "slow") == (130, 70)
    run("slow", minutes=3.0)
    assert calls[-1].segmenter.num_steps == 130  # A run that resumes keeps to it.
    assert steps(1e3, "late") == (80, 40)
    assert steps(38.0, "said", fields={"segmenter.num_steps": 200}) == (200, 70)


def test_a_step_of_each_stage_is_measured(monkeypatch):
    monkeypatch.setattr(budget, "LIMIT", 0.01)
    speed = budget.measure(with_fields(config_with(), ONE_STAGE))
    assert set(speed.updates) == {"gan", "segmenter"}
    assert all(0 < each < 10 for each in speed.updates.values())


def test_typed_settings():
    assert parsed("gan.num_steps", "12", Config) == 12
    assert parsed("dataset.cache", "none", Config) == "none"
    assert parsed("segmenter.refine", "no", Config) is False
    assert parsed("model.stage_channels", "(8, 4)", Config) == (8, 4)
    for name, text, said in (
        ("gan.num_steps", "abc", "gan.num_steps='abc' must be a whole number"),
        ("gan.num_stepz", "1", "did you mean 'gan.num_steps'"),
        ("segmenter.refine", "maybe", "must be True or False"),
    ):
        with pytest.raises(UserError, match=said):
            parsed(name, text, Config)


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    check_writable(tmp_path / "new" / "deep", "--out")
    check_writable("gs://bucket/place", "--out")
    for place, said in (("file", "is a file"), ("file/below", "cannot be made")):
        with pytest.raises(UserError, match=f"--out=.*{said}"):
            check_writable(tmp_path / place, "--out")
