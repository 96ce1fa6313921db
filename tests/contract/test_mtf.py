"""Tables of a camera's MTF: those that RELION is shipped with, and ones that cannot be used."""

import pytest

from eucentric.errors import FormatError, InputError
from eucentric.io.mtf import read_mtf

HEAD = "data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n"


@pytest.mark.parametrize(
    ("name", "count", "middle", "last"),
    [
        ("mtf_k2_300kV.star", 1001, 0.747, 0.388115),
        ("mtf_falcon4EC_300kV.star", 64, 0.534835784, 0.092640118),
        ("mtf_falcon3EC_300kV.star", 64, 0.5723743125, 0.1517875288),
        ("mtf_de20_300kV.star", 641, None, 0.2042),
    ],
)
def test_tables_of_cameras(shared_data, name, count, middle, last):
    frequency, value = read_mtf(shared_data / "formats" / "mtf" / name)
    assert (len(frequency), value[-1]) == (count, last)
    assert value[0] == pytest.approx(1.0, abs=1e-3)
    if middle is not None and count == 64:
        assert value[frequency == 0.25] == middle


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_\n\nloop_\n_rlnX #1\n_rlnMtfValue #2\n0 1\n0.5 0.3\n", "expected the columns"),
        (HEAD + "0 1\n0.5 bright\n", "not numbers"),
        (HEAD + "0 1\n0.3 0.5\n", "ascend to 0.5"),
        (HEAD + "0 1\n0.3 0.5\n0.2 0.4\n0.5 0.2\n", "ascend to 0.5"),
        (HEAD + "0 1\n0.5 -0.2\n", "values from 0"),
        (HEAD + "0 100\n0.5 20\n", "values from 0"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, words):
    path = tmp_path / "mtf.star"
    path.write_text(text)
    with pytest.raises(FormatError, match=words):
        read_mtf(path)


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_mtf(tmp_path / "none.star")
