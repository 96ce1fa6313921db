"""What a user tells of other programs' files is checked before any file is read, in words that name the option."""

import math

import pytest

from eucentric.errors import InputError
from eucentric.io.exchange.records import Given


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"pixel_size_angstrom": value}, "--pixel-size") for value in (0.0, -1.35, math.nan, math.inf)
    ]
    + [({"image_shape": value}, "--image-size") for value in ((0, 10), (10, -1), (10, 2.5), (math.nan, 10), (math.inf, 1))]
    + [({"dose_per_tilt": value}, "--dose") for value in (-0.1, math.nan, math.inf)],
)  # fmt: skip
def test_values_that_cannot_be_are_refused(given, option):
    with pytest.raises(InputError, match=f"Mend {option}"):
        Given(**given)


def test_values_that_can_be_are_taken():
    assert Given(pixel_size_angstrom=1.35, image_shape=(1, 4092), dose_per_tilt=0.0).image_shape == (1, 4092)
    assert Given() == Given()


@pytest.mark.parametrize("found", [None, 0.0, math.nan, math.inf])
def test_a_pixel_size_in_a_file_that_cannot_be_is_asked_for(found):
    with pytest.raises(InputError, match="--pixel-size"):
        Given().need_pixel_size(found, "a.xf")
