"""Every file of configs/: it loads, fits together, and says how it is run."""

import ast
import importlib
from pathlib import Path

import ml_collections
import pytest

from ganseg_jax.config import base_config, flat, freeze, parse_arg, reference
from ganseg_jax.models.build import build_discriminator, build_generator, build_segmenter

FOLDER = Path(__file__).parents[2] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
PUBLISHED = ["celeba_aligned", "celeba_wild", "cub", "flowers", "taichi"]


def load(name, arg=None):
    return importlib.import_module(f"configs.{name}").get_config(arg)


def frozen(name, arg=None):
    return freeze(load(name, arg))


def test_the_published_and_the_small_experiments_are_there():
    assert set(NAMES) >= {*PUBLISHED, "tiny", "puppets", "people_ccp", "image_folder"}


@pytest.mark.parametrize("name", NAMES)
def test_config_builds_networks_of_its_image_size(name):
    config = frozen(name)
    generator, discriminator = build_generator(config), build_discriminator(config)
    assert generator.image_size == config.image_size
    assert generator.num_parts == config.model.num_parts
    assert build_segmenter(config).num_classes == config.model.num_parts + 1
    # The discriminator's last map is small, whatever the size.
    assert config.image_size // 2 ** len(discriminator.channels) in (2, 3, 4, 6)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("name", ["people_ccp", "faces_mtfl", "image_folder"])
def test_small_configs_take_an_image_size(name, size):
    config = frozen(name, f"size={size}")
    assert build_generator(config).image_size == size
    channels = build_discriminator(config).channels
    assert size // 2 ** len(channels) == (2 if size == 128 else 4)
    assert (config.segmenter.backbone == "resnet50") == (size == 128)
    assert (config.segmenter.initialisation == "published") == (size == 128)


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_own_photos_can_be_trained_on_as_published(variant):
    ours = frozen("image_folder", f"parts=8,size=128,variant={variant}")
    theirs = load("celeba_wild", f"parts=8,variant={variant}")
    theirs.dataset.name = "image_folder"
    assert ours == freeze(theirs)
    small = load("image_folder", f"size=64,variant={variant}")
    assert small.image_size == 64 and len(small.discriminator.channels) == 4
    with pytest.raises(ValueError, match="variant='samll'"):
        load("image_folder", "variant=samll")


def test_parts_of_own_photos_can_begin_one_above_the_other():
    disc = load("image_folder", "size=32,layout=disc")
    column, row = (load("image_folder", f"size=32,layout={name}") for name in ("column", "row"))
    assert load("image_folder").gan.point_layout == "auto"
    assert (row.gan.point_layout, row.gan.point_spread) == ("row", column.gan.point_spread)
    people = load("people_ccp", "size=32").gan
    for field in ("point_layout", "point_spread"):
        assert column.gan[field] == people[field] != disc.gan[field]
        column.gan[field] = disc.gan[field]
    assert freeze(column) == freeze(disc)
    with pytest.raises(ValueError, match="layout='line' is none of auto, disc, column, row"):
        load("image_folder", "layout=line")
    with pytest.raises(ValueError, match="layout=column is for variant=small, not paper"):
        load("image_folder", "layout=column,variant=paper")


@pytest.mark.parametrize("name", NAMES)
def test_config_has_the_fields_of_all_experiments(name):
    assert flat(frozen(name)).keys() == flat(freeze(base_config())).keys()


@pytest.mark.parametrize("name", NAMES)
def test_docstring_is_a_run_card(name):
    card = importlib.import_module(f"configs.{name}").__doc__
    assert f"python -m experiments.pipeline --config=configs/{name}.py" in card
    assert "Command:" in card


@pytest.mark.parametrize("name", NAMES)
def test_unknown_argument_is_named(name):
    with pytest.raises(ValueError, match="prats"):
        load(name, "prats=3")


@pytest.mark.parametrize("name", NAMES)
def test_configs_import_settings_alone(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    modules = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    modules += [
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    ]
    assert modules and all(m.split(".")[:2] in ([m], ["ganseg_jax", "config"]) for m in modules)
    assert {m for m in modules if "." not in m} == {"ml_collections"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    """Training and sizes of the published models, the same for all sets."""
    c = load(name)
    assert (c.image_size, c.model.points_per_part) == (128, 4)
    assert (c.model.noise_dim, c.model.embedding_dim, c.model.margin) == (256, 64, 10)
    assert (c.gan.batch_size, c.gan.num_steps) == (64, 30_000)
    assert (c.gan.learning_rate_generator, c.gan.learning_rate_discriminator) == (1e-4, 4e-4)
    assert (c.gan.beta1, c.gan.beta2) == (0.5, 0.9)
    penalty = c.gan.gradient_penalty
    assert (penalty.kind, penalty.weight, penalty.interval) == ("unit_norm", 10, 16)
    assert (c.gan.concentration.interval, c.gan.area.interval) == (2, 2)
    assert (c.segmenter.batch_size, c.segmenter.num_steps) == (64, 10_000)
    generator = build_generator(freeze(c))
    six = name in ("cub", "flowers")
    assert generator.stage_sizes == ((32, 32, 64, 64, 128, 128) if six else (32, 32, 64, 128))
    channels = (512, 256, 256, 128, 128, 64) if six else (512, 256, 128, 64)
    assert generator.stage_channels == channels
    discriminator = build_discriminator(freeze(c))
    assert discriminator.channels == (64, 128, 256, 512, 512, 512)


@pytest.mark.parametrize(
    ("name", "arg", "parts", "weight"),
    [
        ("celeba_wild", None, 8, 10),
        ("celeba_wild", "parts=4", 4, 5),
        ("taichi", None, 10, 30),
        ("cub", None, 8, 10),
        ("flowers", None, 8, 30),
        ("cub", "parts=16,variant=paper", 16, 20),
    ],
)
def test_concentration_grows_with_the_parts(name, arg, parts, weight):
    """GANSeg eq. 26: lambda_con = C_con K."""
    config = load(name, arg)
    assert config.model.num_parts == parts
    assert config.gan.concentration.weight == weight


def test_paper_variant_follows_the_paper_s_equations():
    c = load("celeba_wild", "variant=paper")
    assert (c.model.heatmap, c.model.part_scale) == ("gaussian", "std")
    assert (c.model.point_layers, c.model.background_shift) == (2, "both")
    assert (c.gan.gradient_penalty.kind, c.gan.gradient_penalty.interval) == ("r1", 1)
    assert (c.gan.concentration.reduction, c.gan.area.form) == ("sum", "paper")
    with pytest.raises(ValueError, match="variant='papre'"):
        load("celeba_wild", "variant=papre")


@pytest.mark.parametrize(("text", "value"), [("False", False), ("true", True), ("0", False)])
def test_arguments_take_the_type_of_their_default(text, value):
    given = parse_arg(f"parts=3,fast={text}", parts=8, fast=True, variant="released")
    assert vars(given) == {"parts": 3, "fast": value, "variant": "released"}


@pytest.mark.parametrize(("name", "kind"), [("parts", "int"), ("fast", "bool")])
def test_argument_values_are_checked(name, kind):
    with pytest.raises(ValueError, match=f"{name}='many' must be {kind}"):
        parse_arg(f"{name}=many", parts=8, fast=True)


def test_tiny_is_tiny():
    c = load("tiny")
    assert isinstance(c, ml_collections.ConfigDict)
    assert c.image_size == 16 and c.gan.num_steps <= 10 and c.segmenter.num_steps <= 10


def test_the_reference_page_is_that_of_the_schema():
    path = FOLDER / "README.md"
    assert path.read_text() == reference.page(), "run the command in its first paragraph"
