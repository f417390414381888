import numpy as np

from ganseg_jax.report.legend import with_legend
from ganseg_jax.report.palette import palette


def squares(picture):
    """Top left pixels of the 12-px squares, by class."""
    found = {}
    for label, color in enumerate(palette(6)[1:], 1):
        rows, cols = np.nonzero((picture == color).all(-1))
        if len(rows) >= 144:
            found[label] = (rows.min(), cols.min())
    return found


def test_names_stand_beside_their_colours_above_the_picture():
    picture = np.full((10, 300, 3), 77, np.uint8)
    result = with_legend(picture, ["background", "head", "torso"])
    assert result.shape == (32, 300, 3)
    np.testing.assert_array_equal(result[22:], picture)
    places = squares(result)
    assert list(places) == [1, 2] and places[1] == (5, 8) and places[2][0] == 5
    between = result[:22, places[1][1] + 12 : places[2][1]]
    assert (between.max(-1) > 150).any()  # The name.


def test_names_that_do_not_fit_go_on_in_the_next_line():
    result = with_legend(np.zeros((4, 120, 3), np.uint8), ["background", *"abcde"])
    places = squares(result)
    assert sorted(places) == [1, 2, 3, 4, 5]
    lines = {row for row, _ in places.values()}
    assert len(lines) == 3 and result.shape[0] == 4 + 3 * 22
