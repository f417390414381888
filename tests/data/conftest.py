"""Data sets small enough to be prepared in a blink."""

import io

import numpy as np
import pytest
from PIL import Image

from ganseg_jax.data import prepare
from ganseg_jax.data.builders.puppets.builder import Puppets


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data_dir with 46 puppets."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Puppets, "EXPECTED_COUNTS", {"train": 30, "validation": 6, "test": 10})
        prepare.prepare("puppets", None, folder)
    return folder


@pytest.fixture
def picture():
    """Makes the bytes of an image file: colored noise that is smooth enough for JPEG."""

    def make(height=24, width=20, mode="RGB", file_format="PNG", seed=0, **options) -> bytes:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, file_format, **options)
        return buffer.getvalue()

    return make
