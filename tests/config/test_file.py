"""A workdir keeps its config; what does not fit it is refused by name."""

import json

import pytest

from ganseg_jax.config import Config, with_fields
from ganseg_jax.config import file as config_file
from ganseg_jax.config.convert import from_mapping
from ganseg_jax.config.setting import leaves
from ganseg_jax.errors import UserError
from ganseg_jax.jobs.begin import begin, check
from tests.tiny_config import config_with


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model__num_parts", 0, "model.num_parts=0 must be at least 1"),
        ("model__stage_divisors", (3, 1), r"stage_divisors=\(3, 1\) must divide image_size=16"),
        ("model__stage_divisors", (2, 2), "must divide image_size=16 and end with 1"),
        ("model__stage_divisors", (), "must divide image_size=16 and end with 1"),
        ("model__stage_divisors", (0, 1), r"stage_divisors=\(0, 1\) has the entry 0, which must"),
        ("model__stage_channels", (8,), "equally long"),
        (
            "model__heatmap",
            "gauss",
            "model.heatmap=.gauss. is none of .* did you mean .gaussian.",
        ),
        ("model__part_scale", "meanabs", "part_scale must be one of .* not 'meanabs'"),
        ("model__part_scale", "inf", "part_scale must be positive and finite, not inf"),
        ("model__part_scale", "nan", "part_scale must be positive and finite, not nan"),
        ("model__part_scale", "1e-60", "part_scale must be positive and finite, not 1e-60"),
        ("model__num_parts", 255, "model.num_parts=255 must be below 255"),
        ("gan__keep_best", "nonsense", "gan.keep_best='nonsense' is neither a figure of an eval"),
        ("gan__keep_best", "dice", r"nor a loss \(generator, concentration, area, discriminator"),
        ("segmenter__keep_best", "foreground_iuo", "; did you mean 'foreground_iou'"),
        ("segmenter__keep_best", "accuracy", "segmenter.keep_best='accuracy' is neither a figure"),
        ("self_training__keep_best", "generator", "self_training.keep_best='generator' is neither"),
        ("image_size", 17, "must divide image_size=17"),
        ("image_size", 0, "image_size=0 must be at least 1"),
        ("gan__point_spread", 1.0, "gan.point_spread=1.0 must be below 1"),
        (
            "gan__discriminator_augment",
            "color,flip",
            "'flip' is none of color, translation, cutout",
        ),
        ("gan__point_layout", "line", "gan.point_layout='line' is none of disc, column, row, auto"),
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
        ("segmenter__width", 0.0, "segmenter.width=0.0 must be above 0"),
        ("model__kind", "autoencoder", "model.kind='autoencoder' is none of gan, autoencoder_p"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(field, value, message, tmp_path):
    with pytest.raises(UserError, match=message):
        begin(config_with(**{field: value}), tmp_path / "W")
    assert not (tmp_path / "W").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gan__keep_best", "sliced_wasserstein"),
        ("gan__keep_best", "puppets_parts/foreground_iou"),
        ("gan__keep_best", "gradient_penalty"),
        ("segmenter__keep_best", "landmark_error_bias"),
        ("segmenter__keep_best", "dice"),
        ("self_training__keep_best", "cross_entropy"),
        ("model__num_parts", 254),
        ("model__part_scale", "0.01"),
    ],
)
def test_what_can_be_done_is_taken(field, value):
    check(config_with(**{field: value}))


def test_an_auto_encoder_is_kept_by_its_own_losses():
    config = config_with(model__kind="autoencoder_points", gan__keep_best="reconstruction")
    check(config)
    with pytest.raises(UserError, match="gan.keep_best='generator' is neither"):
        check(with_fields(config, {"gan.keep_best": "generator"}))


def test_workdir_from_before_a_field_goes_on(tmp_path):
    begin(config_with(), tmp_path)
    (tmp_path / "gan" / "checkpoints").mkdir(parents=True)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["model"]["kind"], saved["autoencoder"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert config_file.load_config(tmp_path).model.kind == "gan"
    begin(config_with(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model"]["kind"] == "gan"


def test_config_file_gives_the_config_back(tmp_path):
    begin(config_with(), tmp_path)
    assert config_file.load_config(tmp_path) == config_with()
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_folder_without_config_is_named(tmp_path):
    with pytest.raises(UserError, match="has no config.json, so nothing was trained there"):
        config_file.load_config(tmp_path)


@pytest.fixture
def begun(tmp_path):
    """A workdir whose GAN has been begun."""
    begin(config_with(), tmp_path)
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
        begin(config_with(**{field: value}), begun)
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
    begin(changed, begun)
    saved = json.loads((begun / "config.json").read_text())
    assert saved["gan"]["num_steps"] == 20 and saved["segmenter"]["width"] == 0.5
    # Once the segmenter has begun, its settings stay too.
    (begun / "segmenter" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="segmenter.width=0.5, not 0.25"):
        begin(config_with(segmenter__width=0.25), begun)


def test_fields_that_decide_figures():
    deciding = config_file.deciding_fields(config_with())
    assert {"gan.num_steps", "segmenter.refine", "seed", "model.num_parts"} <= set(deciding)
    assert {"gan.log_every", "dataset.data_dir"}.isdisjoint(deciding)


def test_workdir_of_before_a_field_was_there_is_taken_up(begun):
    old = json.loads((begun / "config.json").read_text())
    del old["partition"], old["autoencoder"], old["model"]["kind"]
    (begun / "config.json").write_text(json.dumps(old))
    assert not config_file.load_config(begun).partition.fsdp
    begin(config_with(), begun)
    with pytest.raises(UserError, match="partition.fsdp=False, not True"):
        begin(config_with(partition__fsdp=True), begun)


def test_anything_may_change_before_training(tmp_path):
    begin(config_with(), tmp_path)
    begin(config_with(seed=5), tmp_path)
    assert config_file.load_config(tmp_path).seed == 5


def test_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/W/config.json: Not a directory"):
        begin(config_with(), tmp_path / "file" / "W")


def test_only_an_explicit_number_of_updates_trains_longer(begun):
    """A command repeated without its override must not extend a run in silence."""
    longer = config_with(gan__num_steps=3000)
    with pytest.raises(UserError, match="num_steps=8, .* give --config.gan.num_steps=8 to keep it"):
        begin(longer, begun, given=["gan.log_every"])
    begin(longer, begun, given=["gan.num_steps"])
    assert config_file.load_config(begun).gan.num_steps == 3000


def test_fewer_updates_are_not_called_longer_training(begun):
    with pytest.raises(UserError, match=r"give --config.gan.num_steps=8 to keep it$"):
        begin(config_with(gan__num_steps=2), begun, given=[])
    with pytest.raises(UserError, match=r"or --config.gan.num_steps=9 to train longer$"):
        begin(config_with(gan__num_steps=9), begun, given=[])


def test_settings_of_a_derived_stage_may_change_if_it_is_trained_again(begun):
    (begun / "segmenter" / "checkpoints").mkdir(parents=True)
    wider = config_with(segmenter__width=0.5)
    with pytest.raises(UserError, match="use that value, --retrain=segmenter, or another"):
        begin(wider, begun)
    begin(wider, begun, retrain=["segmenter"])
    assert config_file.load_config(begun).segmenter.width == 0.5


def test_unknown_field_of_a_config_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"gan": {"num_step": 3}}')
    with pytest.raises(UserError, match="no field gan.num_step; did you mean 'gan.num_steps'"):
        config_file.load_config(tmp_path)


def test_damaged_config_file_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json is damaged"):
        config_file.load_config(tmp_path)


def test_every_setting_explains_itself_and_its_default_is_sound():
    for name, leaf in leaves(Config).items():
        assert leaf.setting.doc.endswith("."), name
        assert not leaf.choices or leaf.default in leaf.choices, name
    assert from_mapping(Config, {}) == Config()
    # What workdirs without these fields had been begun with.
    old = from_mapping(Config, {}, missing="before")
    assert old.segmenter.initialisation == "he" and not old.self_training.refine_labels
