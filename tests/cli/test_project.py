import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from ganseg_jax import sample_latents
from ganseg_jax.errors import UserError
from ganseg_jax.fewshot import samples
from ganseg_jax.fewshot.source import Source
from ganseg_jax.jobs.project import read_folder
from ganseg_jax.loading import load_generator
from ganseg_jax.pixels import to_uint8


@pytest.fixture
def photos(workdir, tmp_path):
    """Three images that the generator made, and a file that is none."""
    import jax

    module, variables = load_generator(workdir)
    latents = sample_latents(jax.random.key(5), 3, module.noise_dim)
    images = to_uint8(np.asarray(Source.of(module).images(variables, latents)))
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, image in zip("abc", images, strict=True):
        Image.fromarray(image).resize((32, 48)).save(folder / f"{name}.png")
    (folder / "text.jpg").write_text("no picture")
    return folder


def test_photos_become_latents_with_parts_by_the_head(
    entry_point, workdir, few_shot, photos, tmp_path, capsys
):
    output = tmp_path / "out"
    given = {"workdir": workdir, "input": photos, "output": output, "few_shot": few_shot}
    entry_point("project", num_steps=30, batch_size=2, max_megapixels=1, **given).main()
    names = [f"{name}.png" for name in "abc"]
    content = json.loads((output / "projection.json").read_text())
    assert list(content["photos"]) == names and list(content["skipped"]) == ["text.jpg"]
    errors = capsys.readouterr().err
    assert "skipped text.jpg: not an image" in errors and "60/60 [" in errors

    # The latents that were written make the reconstructions that were written.
    module, variables = load_generator(workdir)
    latents = samples.read_latents(output, names)
    images = np.asarray(Source.of(module).images(variables, latents))
    for image, name in zip(images, names, strict=True):
        stored = np.asarray(Image.open(output / "reconstructions" / f"{name}.png"))
        assert np.abs(stored.astype(int) - to_uint8(image)).max() <= 1
        photo = np.asarray(Image.open(photos / name).resize((16, 16), Image.Resampling.BILINEAR))
        error = np.mean(np.square((stored.astype(float) - photo) / 127.5))
        np.testing.assert_allclose(content["photos"][name]["squared_error"], error, rtol=0.1)
        labels = np.asarray(Image.open(output / "labels" / f"{name}.png"))
        assert labels.shape == (16, 16) and labels.max() <= 2
    # Legend, three rows of tiles, captions.
    assert Image.open(output / "sheet.png").height == 22 + 3 * (128 + 3) + 18 + 3


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"space": "w"}, "--space=w is for StyleGAN2"),
        ({"few_shot": "none"}, "none holds no few-shot result"),
        ({"input": "missing"}, "--input=missing does not exist"),
    ],
)
def test_what_does_not_fit_is_said(entry_point, workdir, photos, tmp_path, more, message):
    given = {"workdir": workdir, "input": photos, "output": tmp_path / "out"} | more
    with pytest.raises(UserError, match=message):
        entry_point("project", **given).main()
    assert not (tmp_path / "out").exists()


def test_the_limit_of_pixels_and_archives_are_those_of_segment(photos, tmp_path):
    with pytest.raises(
        UserError, match="photos can be read .a.png: .*more than max_megapixels=0.0"
    ):
        read_folder(photos, tmp_path / "out", 16, max_megapixels=0.001)
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        tar.add(photos, "p")
    names, read, *_ = read_folder(tmp_path / "p.tar", tmp_path / "out", 16)
    assert names == ["p/a.png", "p/b.png", "p/c.png"] and read.shape == (3, 16, 16, 3)
