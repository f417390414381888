"""The entry point's answers to mistakes; what it measures is tested with the evaluation."""

import pytest

from ganseg_jax.errors import UserError

CONFIG = {"config": "configs/tiny.py"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give either --workdir, of a trained generator, or --config"),
        (CONFIG | {"workdir": "W"}, "give either --workdir"),
        (CONFIG | {"shifts": "1,16"}, "--shifts=1,16 must be whole numbers of pixels from 1 to 15"),
        (CONFIG | {"shifts": "half"}, "--shifts=half must be whole numbers"),
        (CONFIG | {"config.model.use_points": False}, "a generator without points cannot be moved"),
    ],
)
def test_mistakes_are_answered_with_one_line(entry_point, tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        entry_point("equivariance", output=tmp_path / "out", **given).main()
    assert not (tmp_path / "out").exists()
