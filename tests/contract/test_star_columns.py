"""The fast reader and writer of STAR tables against the plain ones, and the words for damaged tables."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from eucentric.errors import FormatError
from eucentric.io import star
from eucentric.io.number_text import array_cells, number_cells, rows_of_cells, text_cells
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.star import read_star, read_star_columns, read_star_text, write_star
from eucentric.models.particles import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

TEXTS = [
    "data_\n\nloop_\n_a #1\n_b #2\n1 x\n2.5 None\n\n# version 50001\n\ndata_second\n\n_name value\n_other 3\n",
    "\n# version 30001\n\ndata_one\n\nloop_ \n_a #1 \n_b #2 \n   1   001 \n\t-2e5\t002\n \n \n",
    "data_a\n\nloop_\n_x\n_y\n1 2\n3 4\ndata_b\nloop_\n_x\n_y\n5 6",
    "data_crlf\r\n\r\nloop_\r\n_a #1\r\n_b #2\r\n1 2\r\n3 nan\r\n",
    "data_a\n\nloop_\n_file #1\n_n #2\nx/data_1.mrc 1\ny/data_2.mrc <NA>\n",
    'data_q\n\nloop_\n_t #1\n_n #2\n"two words" 1\nplain 2\n',
    "data_ü\n\nloop_\n_t #1\n_n #2\nµm 1\nplain 22\n",
    "data_c\n\nloop_\n_t #1\n_n #2\na 1 # told\nb 2\n",
]


def plain(path: Path) -> dict[str, dict[str, list[str | None]]]:
    """As the starfile package reads texts."""
    return star._read_plain(path)


@pytest.mark.parametrize("text", TEXTS)
def test_the_fast_reader_gives_what_the_plain_one_gives(text, tmp_path):
    path = tmp_path / "a.star"
    path.write_bytes(text.encode())
    assert read_star_text(path) == plain(path)


def test_real_tables_are_read_the_same_by_both(shared_data):
    paths = sorted((shared_data / "formats").rglob("*.star"))
    assert len(paths) > 15
    for path in paths:
        assert read_star_text(path) == plain(path), path


def test_long_tables_are_written_and_read_exactly(tmp_path):
    """Beyond the number of rows from which the fast writer works: every digit, missing values, texts that need quotes."""
    rng = np.random.default_rng(1)
    count = 70_001
    numbers = {
        "normal": rng.normal(size=count) * 10.0 ** rng.integers(-12, 12, count),
        "rounded": (rng.normal(size=count) * 1e3).round(6),
        "whole": rng.integers(-(10**12), 10**12, count),
        "wholeFloats": rng.integers(-50, 50, count).astype(np.float64),
        "missing": np.where(rng.random(count) < 0.1, np.nan, rng.random(count)),
    }
    texts = {
        "names": np.array([f"TS_{i % 7:03d}/{i}" for i in range(count)]),
        "gaps": np.array(["" if i % 5 == 0 else f"v{i}" for i in range(count)]),
        "words": np.array(
            ["two words" if i == 3 else "ü" if i == 4 else "x#1" if i == 5 else "a" for i in range(count)]
        ),
    }
    write_star(tmp_path / "a.star", {"particles": {**numbers, **texts}})
    table = read_star(tmp_path / "a.star")["particles"]
    for label, column in numbers.items():
        np.testing.assert_array_equal(table[label].to_numpy(), column)
    assert table["whole"].dtype == np.int64
    found = read_star_text(tmp_path / "a.star")["particles"]
    for label, column in texts.items():
        assert [value or "" for value in found[label]] == column.tolist()
    few = {label: column[:1999].tolist() for label, column in numbers.items()}
    write_star(tmp_path / "b.star", {"particles": few})
    for label, column in few.items():
        np.testing.assert_array_equal(read_star(tmp_path / "b.star")["particles"][label], column)
    by_others = starfile.read(tmp_path / "a.star")
    np.testing.assert_array_equal(by_others["rounded"].to_numpy(), numbers["rounded"])


@pytest.mark.parametrize(
    "values",
    [
        np.array([0.0, -0.5, 1.25, -123.456789, 999999.123456, -1e-9, 5.0]),
        np.array([1e300, 1.0]),
        np.array([0.1 + 0.2, 1 / 3]),
        np.array([0, -7, 10**17]),
        np.array([np.nan, 1.0]),
        np.array([0.0]),
    ],
)
def test_numbers_as_bytes_come_back_exactly(values):
    read = [float(bytes(row)) for row in number_cells(values)]
    np.testing.assert_array_equal(read, values.astype(float))


def test_texts_as_bytes():
    assert rows_of_cells([text_cells(["a", "bcd"]), number_cells(np.array([1, -20]))]) == b"  a   1\nbcd -20\n"
    assert array_cells(np.array(["a", "b c"])) is None
    assert array_cells(np.array(["a", ""])) is None
    assert array_cells(np.array(["a", "_b"])) is None
    assert array_cells(np.array(["ä"])) is None
    assert array_cells(np.array(["a!", "bcd"])).tobytes() == b"a! bcd"


HEAD = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n1\n\ndata_particles\n\nloop_\n_rlnTomoName #1\n"
HEAD += "".join(f"_rlnCenteredCoordinate{a}Angst #{i}\n" for i, a in enumerate("XYZ", 2))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a 1 2 3\na 1 2\n", "line 15 has 3 values; expected 4"),
        ("a 1 2 3\n\n# told\na 1 2 3 4\n", "line 17 has 5 values; expected 4"),
        ("a 1 2 3\na 1 b 3\n", "`b` under rlnCenteredCoordinateYAngst in line 15"),
        (
            "a 1 2 3\na 1 nan 3\na 1 inf 3\n",
            "2 of 3 rows .* coordinates that are NaN, infinite or missing; the first is row 2",
        ),
        ("a 1 2 3\nNone 1 2 3\n", "without rlnTomoName; the first is row 2"),
    ],
)
def test_damaged_rows_are_named(rows, message, tmp_path):
    path = tmp_path / "p.star"
    path.write_text(HEAD + rows)
    with pytest.raises(FormatError, match=message):
        read_particles(path)


def test_other_damage_is_told(tmp_path):
    path = tmp_path / "p.star"
    path.write_bytes((HEAD + "a 1 2 3\n").encode() + b"\xff 1 2 3\n")
    with pytest.raises(FormatError, match="not a STAR file that can be read"):
        read_particles(path)
    path.write_text("data_a\n\n_one two three\n")
    with pytest.raises(FormatError, match="not a label and a value"):
        read_star_text(path)
    path.write_text("no table\n")
    with pytest.raises(FormatError, match="has no `data_` block"):
        read_star_text(path)


def test_numbers_and_texts_of_a_column(tmp_path):
    path = tmp_path / "a.star"
    path.write_text("data_\n\nloop_\n_a #1\n_b #2\n_c #3\n1 1_2 x\n2 3 None\n")
    table = read_star_columns(path)[""]
    assert table.labels == ("a", "b", "c")
    assert len(table) == 2
    assert table.integers("a").tolist() == [1, 2]
    assert table.numbers_or_none("b") is None  # 1_2 is a name, not a number
    assert table.texts("c").tolist() == ["x", ""]


def test_long_lists_keep_every_column(tmp_path):
    """Through RELION's format and back, beyond the number of rows where the fast paths begin; and Dynamo's own columns."""
    count = 3000
    rng = np.random.default_rng(5)
    given = ParticleSet.build(
        np.array(["TS_01", "TS_02"])[np.arange(count) % 2],
        rng.uniform(-900, 900, (count, 3)).round(6),
        scores=rng.random(count),
        kinds=(np.arange(count) % 3 + 1).astype(np.str_),
        columns={
            "rlnRandomSubset": np.arange(count) % 2 + 1.0,
            "rlnLogLikeliContribution": rng.normal(size=count),
            "rlnTomoTiltSeriesPixelSize": np.where(np.arange(count) % 2, 1.5, 1.35),
            "rlnVoltage": np.full(count, 300.0),
            "rlnTomoSubTomosAre2DStacks": np.ones(count),
        },
        texts={
            "rlnTomoParticleName": [f"p/{i}" for i in range(count)],
            "rlnImageName": [f"{i}@x y.mrcs" if i == 7 else f"{i}@x.mrcs" for i in range(count)],
        },
    )
    write_particles(tmp_path / "a.star", given, "relion5")
    got = read_particles(tmp_path / "a.star")
    np.testing.assert_array_equal(got.positions_angstrom, given.positions_angstrom)
    np.testing.assert_array_equal(got.scores, given.scores)
    assert set(got.columns) == set(given.columns)
    for label, column in given.columns.items():
        np.testing.assert_array_equal(got.columns[label], column)
    for label, text in given.texts.items():
        np.testing.assert_array_equal(got.texts[label], text)
    optics = read_star(tmp_path / "a.star")["optics"]
    assert optics["rlnTomoTiltSeriesPixelSize"].tolist() == [1.35, 1.5]
    assert optics["rlnVoltage"].tolist() == [300.0, 300.0]
    frames = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=4.0, size_xyz=(500, 501, 400)))
    tagged = given.with_column("dynTag", np.arange(count)[::-1] + 10.0).with_column("dynYMinTilt", -54.0)
    write_particles(tmp_path / "a.tbl", tagged, "dynamo", frames)
    back = read_particles(tmp_path / "a.tbl", frames)
    np.testing.assert_array_equal(back.columns["dynTag"], tagged.columns["dynTag"])
    assert set(back.columns["dynYMinTilt"]) == {-54.0}
    np.testing.assert_allclose(back.positions_angstrom, given.positions_angstrom, atol=4e-6)
