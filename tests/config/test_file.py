"""A workdir keeps its config; what does not fit it is refused by name."""

import json

import pytest

from configs import tiny
from ganseg_jax.config import file as config_file
from ganseg_jax.errors import UserError
from ganseg_jax.models import build as settings
from tests.tiny_config import config_with


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model__num_parts", 0, "num_parts must be at least 1, not 0"),
        ("model__stage_divisors", (3, 1), r"stage_divisors=\(3, 1\) must divide image_size=16"),
        ("model__stage_divisors", (2, 2), "must divide image_size=16 and end with 1"),
        ("model__stage_divisors", (), "must divide image_size=16 and end with 1"),
        ("model__stage_divisors", (0, 1), "must divide image_size=16 and end with 1"),
        ("model__stage_channels", (8,), "equally long"),
        ("model__heatmap", "gauss", "heatmap must be one of .* not 'gauss'"),
        ("model__part_scale", "meanabs", "part_scale must be one of .* not 'meanabs'"),
        ("image_size", 17, "must divide image_size=17"),
        ("image_size", 0, "image_size=0 must be at least 1"),
        ("gan__point_spread", 1.0, "gan.point_spread=1.0 must be 0 or more and below 1"),
        (
            "gan__discriminator_augment",
            "color,flip",
            "'flip' is none of color, translation, cutout",
        ),
        ("gan__point_layout", "line", "gan.point_layout='line' is none of disc, column"),
        ("gan__concentration__decay_from", 3, "decay_from=3 must be 0 or more and below"),
        ("discriminator__channels", (4,) * 5, "discriminator.channels has 5 blocks"),
        ("dtype", "float16", "dtype='float16' is none of .* did you mean 'bfloat16'"),
        ("gan__gradient_penalty__kind", "r2", "kind='r2' is none of unit_norm, r1"),
        ("gan__area__form", "published", "gan.area.form='published' is none of released, paper"),
        ("gan__concentration__interval", 0, "gan.concentration.interval=0 must be at least 1"),
        ("gan__batch_size", 0, "gan.batch_size=0 must be at least 1"),
        ("gan__log_every", 0, "gan.log_every=0 must be at least 1"),
        ("segmenter__backbone", "resnet51", "segmenter.backbone='resnet51' .* mean 'resnet50'"),
        ("segmenter__output_stride", 3, "segmenter.output_stride=3 is none of 2, 4, 8"),
        ("segmenter__checkpoint_every", -1, "segmenter.checkpoint_every=-1 must be at least 1"),
        ("gan__on_nonfinite", "stopp", "gan.on_nonfinite='stopp' is none of .* mean 'stop'"),
        ("segmenter__on_nonfinite", "go", "segmenter.on_nonfinite='go' is none of stop, retry"),
        ("dataset__cache", "disk", "dataset.cache='disk' is none of none, host, device"),
        ("dataset__augment", "crop", "dataset.augment='crop' is none of none, flip, flip_crop"),
        ("segmenter__width", 0.0, "segmenter.width=0.0 must be positive"),
        ("model__kind", "autoencoder", "model.kind='autoencoder' is none of gan, autoencoder_p"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(field, value, message, tmp_path):
    with pytest.raises(UserError, match=message):
        config_file.adopt_workdir(config_with(**{field: value}), tmp_path / "W")
    assert not (tmp_path / "W").exists()


def test_workdir_from_before_a_field_goes_on(tmp_path):
    config_file.adopt_workdir(tiny.get_config(), tmp_path)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["model"]["kind"], saved["autoencoder"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert config_file.load_config(tmp_path).model.kind == "gan"
    config_file.adopt_workdir(tiny.get_config(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["kind"] == "gan"


def test_config_file_gives_the_config_back(tmp_path):
    config_file.adopt_workdir(tiny.get_config(), tmp_path)
    loaded = config_file.load_config(tmp_path)
    assert config_file.flat_fields(loaded) == config_file.flat_fields(tiny.get_config())
    assert settings.build_gan(loaded) == settings.build_gan(tiny.get_config())
    assert settings.build_segmentation(loaded) == settings.build_segmentation(tiny.get_config())
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_folder_without_config_is_named(tmp_path):
    with pytest.raises(UserError, match="has no config.json, so nothing was trained there"):
        config_file.load_config(tmp_path)


@pytest.fixture
def begun(tmp_path):
    """A workdir whose GAN has been begun."""
    config_file.adopt_workdir(tiny.get_config(), tmp_path)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model__num_parts", 4, "was begun with model.num_parts=3, not 4"),
        ("seed", 1, "was begun with seed=0, not 1"),
        ("gan__area__weight", 2.0, "was begun with gan.area.weight=1.0, not 2.0"),
        ("partition__fsdp", True, "was begun with partition.fsdp=False, not True"),
        ("dataset__cache", "device", "was begun with dataset.cache='host', not 'device'"),
        ("dataset__name", "cub", "was begun with dataset.name='puppets', not 'cub'"),
    ],
)
def test_workdir_of_another_config_is_refused(begun, field, value, message):
    before = (begun / "config.json").read_text()
    with pytest.raises(UserError, match=message):
        config_file.adopt_workdir(config_with(**{field: value}), begun)
    assert (begun / "config.json").read_text() == before


def test_what_changes_no_result_may_change(begun):
    changed = config_with(
        gan__num_steps=20,
        gan__log_every=1,
        gan__on_nonfinite="retry",
        dataset__data_dir="elsewhere",
        dataset__cache="none",
        segmenter__width=0.5,
    )
    config_file.adopt_workdir(changed, begun)
    saved = json.loads((begun / "config.json").read_text())
    assert saved["gan"]["num_steps"] == 20 and saved["segmenter"]["width"] == 0.5
    # Once the segmenter has begun, its settings stay too.
    (begun / "segmenter" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="segmenter.width=0.5, not 0.25"):
        config_file.adopt_workdir(config_with(segmenter__width=0.25), begun)


def test_fields_that_decide_figures():
    deciding = config_file.deciding_fields(tiny.get_config())
    assert {"gan.num_steps", "segmenter.refine", "seed", "model.num_parts"} <= set(deciding)
    assert {"gan.log_every", "dataset.data_dir"}.isdisjoint(deciding)


def test_workdir_of_before_a_field_was_there_is_taken_up(begun):
    old = json.loads((begun / "config.json").read_text())
    del old["partition"], old["autoencoder"], old["model"]["kind"]
    (begun / "config.json").write_text(json.dumps(old))
    assert settings.build_gan(config_file.load_config(begun)).settings.flat_adam
    config_file.adopt_workdir(tiny.get_config(), begun)
    with pytest.raises(UserError, match="partition.fsdp=False, not True"):
        config_file.adopt_workdir(config_with(partition__fsdp=True), begun)


def test_anything_may_change_before_training(tmp_path):
    config_file.adopt_workdir(tiny.get_config(), tmp_path)
    config_file.adopt_workdir(config_with(seed=5), tmp_path)
    assert config_file.load_config(tmp_path).seed == 5


def test_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file/W.*choose another --workdir"):
        config_file.adopt_workdir(tiny.get_config(), tmp_path / "file" / "W")
