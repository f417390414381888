"""Tables of an evaluation."""

import pytest

from ganseg_jax.config import with_fields
from ganseg_jax.jobs import measure
from tests.tiny_config import config_with


def test_fid_stands_beside_the_published_one():
    config = with_fields(config_with(), {"dataset.name": "cub"})
    _, header, rows = measure.fid_table(config, {"fid": 40.5})
    column = header.index("CUB")
    assert [row[column] for row in rows] == [38.74, pytest.approx(40.5)]


@pytest.mark.parametrize("dataset, figures", [("cub", {}), ("image_folder", {"fid": 40.5})])
def test_without_a_counterpart_there_is_no_table(dataset, figures):
    config = with_fields(config_with(), {"dataset.name": dataset})
    assert measure.fid_table(config, figures) is None
