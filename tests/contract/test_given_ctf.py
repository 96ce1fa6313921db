"""The table of a contrast transfer that was taken over."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eucentric.errors import FormatError, InputError
from eucentric.io.given_ctf import GivenCtf, read_given_ctf, write_given_ctf
from eucentric.models import CtfFit

number = st.floats(-1e6, 1e6)
fits = st.builds(
    CtfFit,
    defocus_u_angstrom=st.floats(1.0, 1e6),
    defocus_v_angstrom=st.floats(1.0, 1e6),
    astigmatism_angle_deg=st.floats(-90, 90),
    phase_shift_deg=st.floats(0, 180),
    score=st.floats(-1, 1) | st.just(math.nan),
    max_resolution_angstrom=st.floats(1, 50) | st.just(math.nan),
)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


@settings(max_examples=10, deadline=None)
@given(
    fits=st.dictionaries(st.integers(0, 200), fits, min_size=1, max_size=5),
    place=st.sampled_from(["image", "specimen"]),
    thickness=st.none() | st.floats(100, 5000),
)
def test_a_table_gives_back_what_was_written(tmp_path_factory, fits, place, thickness):
    path = tmp_path_factory.mktemp("given") / "TS_1.star"
    written = GivenCtf(source="AreTomo (a b.txt)", place=place, fits=fits, thickness_angstrom=thickness)
    write_given_ctf(path, written)
    found = read_given_ctf(path)
    assert (found.source, found.place, found.thickness_angstrom) == (written.source, place, thickness)
    assert list(found.fits) == sorted(fits)
    for acquisition, fit in fits.items():
        other = found.fits[acquisition]
        assert all(same(getattr(fit, name), getattr(other, name)) for name in ("defocus_u_angstrom", "score"))
        assert same(fit.phase_shift_deg, other.phase_shift_deg)
        assert same(fit.max_resolution_angstrom, other.max_resolution_angstrom)


HEAD = "data_ctf_source\n\nloop_\n_eucCtfSource #1\n_eucCtfPlace #2\nX {place}\n\ndata_ctf\n\nloop_\n"
COLUMNS = "_eucAcquisitionIndex #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n_rlnDefocusAngle #4\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD.format(place="elsewhere") + COLUMNS + "0 2e4 2e4 0\n", "lacks eucCtfPlace"),
        (HEAD.format(place="image") + "_eucAcquisitionIndex #1\n_rlnDefocusU #2\n0 2e4\n1 2e4\n", "lacks rlnDefocusV"),
        (HEAD.format(place="image") + COLUMNS + "0 2e4 2e4 0\n0 3e4 3e4 0\n", "lists the image 0 twice"),
        (HEAD.format(place="image") + COLUMNS + "0 2e4 nan 0\n1 2e4 2e4 0\n", "Row 1 of .* says .* for rlnDefocusV"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "x.star").write_text(text)
    with pytest.raises(FormatError, match=words):
        read_given_ctf(tmp_path / "x.star")


def test_no_table(tmp_path):
    with pytest.raises(InputError, match="Import the estimates again"):
        read_given_ctf(tmp_path / "x.star")
