import jax
import numpy as np
import pytest
from PIL import Image

from ganseg_jax import load_generator, parts
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import samples
from ganseg_jax.jobs import sample
from ganseg_jax.pixels import to_uint8
from ganseg_jax.report.palette import palette


@pytest.fixture(scope="module")
def generator(workdir):
    """Latents to the generator's output."""
    module, variables = load_generator(workdir)
    return jax.jit(lambda latents: module.apply(variables, latents, train=False))


@pytest.fixture
def sampled(entry_point, workdir, tmp_path, monkeypatch):
    """Seven samples in batches of four, and the interpolation."""
    module = entry_point(
        "sample", workdir=workdir, output=tmp_path / "out", num=7, seed=3, interpolate=True
    )
    monkeypatch.setattr(sample, "BATCH_SIZE", 4)
    module.main()
    return tmp_path / "out"


def read(path):
    return np.asarray(Image.open(path))


def test_samples_are_what_the_generator_makes_of_the_saved_latents(sampled, generator):
    names = [f"sample_{i:04d}" for i in range(7)]
    for folder in ("images", "masks"):
        assert sorted(path.stem for path in (sampled / folder).iterdir()) == names
    out = jax.device_get(generator(samples.read_latents(sampled, names)))
    images = np.stack([read(sampled / "images" / f"{name}.png") for name in names])
    labels = np.stack([read(sampled / "masks" / f"{name}.png") for name in names])
    assert np.abs(images.astype(int) - to_uint8(out.image)).max() <= 1
    assert (labels == out.masks.argmax(-1)).mean() > 0.99
    assert len(np.unique(images, axis=0)) == 7
    mask = Image.open(sampled / "masks" / "sample_0000.png")
    assert mask.mode == "P"
    assert mask.getpalette()[:12] == palette(4).ravel().tolist()


def test_sheets(sampled):
    sheet, moving = read(sampled / "samples.png"), read(sampled / "interpolation.png")
    # Four rows of tiles of 128 px with gaps; the interpolation has two blocks of them.
    assert sheet.shape[0] > 4 * 128 and sheet.shape[1] > 7 * 128
    assert moving.shape[0] > 8 * 128 and moving.shape[1] > 8 * 128


def test_samples_show_parts_as_what_they_are_called(entry_point, workdir, tmp_path):
    joined = [parts.Part("round", "#123456"), parts.Part(hidden=True), parts.Part(into=1)]
    file = parts.write(workdir, joined)
    try:
        entry_point("sample", workdir=workdir, output=tmp_path / "out", num=2, seed=3).main()
    finally:
        file.unlink()
    mask = Image.open(tmp_path / "out" / "masks" / "sample_0000.png")
    assert set(np.unique(mask)) <= {0, 1} and mask.getpalette()[3:6] == [0x12, 0x34, 0x56]
    sheet = read(tmp_path / "out" / "samples.png")
    assert (sheet[:22] == (0x12, 0x34, 0x56)).all(-1).sum() >= 144


def test_interpolation_moves_one_latent_at_a_time():
    from ganseg_jax import prng, sample_latents

    latents = sample_latents(prng.root_key(0), 2, 8)
    moving = sample.interpolations(latents, seed=0)
    pose, look = moving.z_point, moving.z_app
    np.testing.assert_allclose(pose[0], latents.z_point[0], rtol=1e-6)
    assert (np.diff(pose[:8], axis=0) != 0).all() and (pose[8:] == latents.z_point[0]).all()
    assert (np.diff(look[8:], axis=0) != 0).all() and (look[:8] == latents.z_app[0]).all()
    assert (moving.z_bg_app == latents.z_bg_app[0]).all()
    assert (moving.u_bg_pos == latents.u_bg_pos[0]).all()


def test_samples_depend_on_the_seed_and_not_on_their_number(
    entry_point, workdir, tmp_path, sampled
):
    first = read(sampled / "images" / "sample_0000.png")
    for seed, same in ((3, True), (4, False)):
        output = tmp_path / str(seed)
        entry_point("sample", workdir=workdir, output=output, num=2, seed=seed).main()
        again = read(output / "images" / "sample_0000.png").astype(int)
        assert (np.abs(again - first).max() <= 1) == same


def test_images_to_label_lie_beside_their_latents(entry_point, workdir, tmp_path, generator):
    module = entry_point("sample", workdir=workdir, output=tmp_path, for_labelling=3)
    module.main()
    names = ["sample_0000", "sample_0001", "sample_0002"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "latents.npz",
        *(f"{n}.png" for n in names),
    ]
    out = jax.device_get(generator(samples.read_latents(tmp_path, names)))
    images = np.stack([read(tmp_path / f"{name}.png") for name in names])
    assert np.abs(images.astype(int) - to_uint8(out.image)).max() <= 1
    with pytest.raises(UserError, match="already"):
        module.main()


def test_default_folders_lie_in_the_workdir(entry_point, workdir):
    module = entry_point("sample", workdir=workdir)
    assert module._output("generated") == workdir / "generated"


def test_a_folder_that_holds_samples_is_left_alone(entry_point, workdir, sampled):
    with pytest.raises(UserError, match="holds samples already"):
        entry_point("sample", workdir=workdir, output=sampled).main()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num": 0}, "--num=0"),
        ({"for_labelling": -1}, "--for_labelling=-1"),
        ({"for_labelling": 3, "interpolate": True}, "--interpolate"),
    ],
)
def test_flags_that_make_no_sense(entry_point, workdir, given, message):
    with pytest.raises(UserError, match=message):
        entry_point("sample", workdir=workdir, **given).main()


def test_a_workdir_without_a_generator(entry_point, tmp_path):
    with pytest.raises(UserError, match="config.json"):
        entry_point("sample", workdir=tmp_path).main()
