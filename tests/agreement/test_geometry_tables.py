"""Every format of tilt series against every other on a phantom of known hand; docs/reference/formats.md shows what was measured.

`python tests/agreement/write_tables.py` writes the page's tables anew.
"""

from pathlib import Path

import pytest
from exchange_phantom import phantom_series
from geometry_tables import feature_table, keeps, pair_table, replaced, words_table

from eucentric.io.exchange.formats import GEOMETRY_FORMATS, recognised_formats

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"
NO_POSITIONS = {"stopgap"}
NO_DEFOCUS = {"dynamo", "protomo"}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    return feature_table(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return pair_table(tmp_path_factory.mktemp("pairs"))


def test_what_a_format_does_not_keep_its_writer_tells(features):
    assert features[1] == []


def test_the_page_shows_what_formats_keep(features):
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page, "what formats keep", features[0]) == page


def test_the_page_tells_the_conventions_in_the_words_of_the_program():
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page, "conventions of tilt series", words_table()) == page


def test_the_page_shows_all_pairs(pairs):
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page, "pairs of tilt series", pairs) == page


def test_no_pair_loses_what_both_hold(pairs):
    """Positions within 0.1 pixel, angles within 0.05 degree, defocus within 1 A, of the phantom that every format can hold."""
    names = [cell.strip().strip("`") for cell in pairs[0].split("|")[2:-1]]
    for row in pairs[2:]:
        first, *marks = (cell.strip().strip("`") for cell in row.split("|")[1:-1])
        for second, mark in zip(names, marks, strict=True):
            if not {first, second} & NO_POSITIONS:
                assert not set(mark) & set("pa") or mark == "yes", (first, second, mark)
            if not {first, second} & NO_DEFOCUS:
                assert "d" not in mark, (first, second, mark)
            assert "h" not in mark, (first, second, mark)


@pytest.mark.parametrize("name", GEOMETRY_FORMATS)
def test_what_is_written_is_recognised_for_what_it_is(name, tmp_path):
    GEOMETRY_FORMATS[name].write(tmp_path / "out", [phantom_series()])
    assert recognised_formats(tmp_path / "out") == [name]


@pytest.mark.parametrize(
    ("form", "mark"), [("relion5", True), ("aretomo", "nearly"), ("imod", False), ("eman2", False)]
)
def test_local_deformation_is_kept_nearly_or_not_at_all(form, mark, tmp_path):
    """AreTomo's patches miss 0.24 pixel at most and 0.07 rms; IMOD's shifts, the same at all heights, 0.14 rms."""
    assert keeps("local deformation", form, tmp_path)[0] == mark
