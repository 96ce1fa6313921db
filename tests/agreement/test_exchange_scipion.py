"""Scipion's sets put points where its transforms, read here from the raw tables and taken as IMOD's, put them.

That Scipion itself opens what is written was checked by hand with scipion-em-tomo 3.12.4: its `SetOfTiltSeries.iterItems`,
`getExcludedViewsIndex` and `SetOfCTFTomoSeries` gave these values, and its `writeXfFile` the `.xf` that lies beside the set.
"""

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from damaged_copies import damaged_copies
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.ctf_estimates import read_imod_defocus
from eucentric.io.exchange.records import Given
from eucentric.io.exchange.scipion import FORMAT


def rows(file: Path, prefix: str) -> list[dict]:
    """Items of a set as dictionaries, from the raw tables."""
    with closing(sqlite3.connect(file)) as connection:
        names = dict(connection.execute(f'SELECT column_name, label_property FROM "{prefix}Classes"').fetchall())
        cursor = connection.execute(f'SELECT * FROM "{prefix}Objects" ORDER BY id')
        heads = [names.get(d[0], d[0]) for d in cursor.description]
        return [dict(zip(heads, row, strict=True)) for row in cursor.fetchall()]


def by_scipion(file: Path, name: str, size_xy: tuple[int, int], pixel: float) -> np.ndarray:
    """x' = A x + d about (n - 1) / 2 from raw to aligned images, where `tilt` has x cos a + z sin a, y."""
    middle = (np.array(size_xy) - 1) / 2
    out = []
    for row in rows(file, f"{name}_"):
        if not row["enabled"]:
            continue
        m = np.array(json.loads(row["_transform._matrix"]))
        a = np.deg2rad(row["_tiltAngle"])
        x, y, z = points().T
        aligned = np.stack([x * np.cos(a) + z * np.sin(a), y]) / pixel
        raw = np.linalg.inv(m[:2, :2]) @ (aligned - m[:2, 2:3])
        out.append(np.concatenate([raw.T + middle, (z * np.cos(a) - x * np.sin(a))[:, None]], axis=1))
    return np.array(out)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_points_lie_where_scipion_puts_them(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    geometry = phantom_series(size_xy=size_xy, magnification=True, excluded=True)
    FORMAT.write(tmp_path, [geometry])
    there = by_scipion(tmp_path / "tiltseries.sqlite", "TS_1", size_xy, 2.5)
    np.testing.assert_allclose(there, seen(geometry), atol=1e-6)


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_several_series_come_back(tmp_path: Path, size_xy: tuple[int, int]) -> None:
    first = phantom_series(size_xy=size_xy, magnification=True, excluded=True, phase_shift=True)
    second = phantom_series(name="other", size_xy=size_xy, seed=3, ctf=False)
    written = FORMAT.write(tmp_path, [first, second])
    assert FORMAT.recognises(tmp_path)
    assert FORMAT.recognises(tmp_path / "tiltseries.sqlite")
    back = FORMAT.read(tmp_path, Given())
    assert [b.series.name for b in back] == ["TS_1", "other"]
    for old, new in zip((first, second), back, strict=True):
        np.testing.assert_allclose(seen(new), seen(old), atol=1e-6)
        assert new.series.image_shape == old.series.image_shape
        assert new.series.pixel_size_angstrom == 2.5
        for a, b in zip(old.series.tilts, new.series.tilts, strict=True):
            assert (b.acquisition, b.dose, b.pre_exposure, b.image) == (
                a.acquisition,
                pytest.approx(a.dose),
                a.pre_exposure,
                a.image,
            )
    for a, b in zip(first.series.tilts, back[0].series.tilts, strict=True):
        assert b.ctf == a.ctf
    assert [t.ctf for t in back[1].series.tilts] == [None] * 11
    assert len(back[0].series.excluded) == 2
    told = " ".join(written.losses)
    assert "hand of the defocus" in told
    assert "why views are excluded" in told
    assert "phase shift" not in told
    assert "magnification" not in told


def test_the_files_for_its_import_protocols_say_the_same(tmp_path: Path) -> None:
    geometry = phantom_series(excluded=True, phase_shift=True)
    written = FORMAT.write(tmp_path, [geometry])
    assert [f.name for f in written.files] == [
        "tiltseries.sqlite",
        "ctfs.sqlite",
        "TS_1.xf",
        "TS_1.tlt",
        "TS_1.defocus",
    ]
    table = rows(tmp_path / "tiltseries.sqlite", "TS_1_")
    for line, row in zip((tmp_path / "TS_1.xf").read_text().splitlines(), table, strict=True):
        m = np.array(json.loads(row["_transform._matrix"]))
        np.testing.assert_allclose([float(w) for w in line.split()], [*m[:2, :2].ravel(), *m[:2, 2]], atol=6e-4)
    fits = {e.section: e.fit for e in read_imod_defocus(tmp_path / "TS_1.defocus").estimates}
    for i, row in enumerate(rows(tmp_path / "ctfs.sqlite", "id1_")):
        assert fits[i].defocus_u_angstrom == pytest.approx(row["_defocusU"], abs=0.1)
        assert fits[i].defocus_v_angstrom == pytest.approx(row["_defocusV"], abs=0.1)
        assert fits[i].astigmatism_angle_deg == pytest.approx(row["_defocusAngle"], abs=0.01)
        assert fits[i].phase_shift_deg == pytest.approx(row["_phaseShift"], abs=0.01)


def test_a_project_gives_its_newest_aligned_series(tmp_path: Path) -> None:
    old, new = tmp_path / "Runs" / "000002_ProtImport", tmp_path / "Runs" / "000077_ProtAlign"
    FORMAT.write(old, [phantom_series(axis_deg=10)])
    FORMAT.write(new, [phantom_series(axis_deg=84)])
    with closing(sqlite3.connect(old / "tiltseries.sqlite")) as connection, connection:
        connection.execute("UPDATE Properties SET value = 'False' WHERE key = '_hasAlignment'")
    later = (new / "tiltseries.sqlite").stat().st_mtime + 100
    os.utime(old / "tiltseries.sqlite", (later, later))
    (back,) = FORMAT.read(tmp_path, Given())
    assert back.series.tilts[0].pose.z_rot_deg == pytest.approx(84, abs=2)
    assert any("000077_ProtAlign" in note for note in back.notes)


def test_series_that_are_not_aligned_have_no_poses(tmp_path: Path) -> None:
    FORMAT.write(tmp_path / "x.sqlite", [phantom_series(excluded=True)])
    assert (tmp_path / "x_ctfs.sqlite").is_file()
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection, connection:
        connection.execute("UPDATE TS_1_Objects SET c18 = NULL")
        connection.execute("UPDATE Properties SET value = 'SetOfTiltSeriesM' WHERE key = 'self'")
    (back,) = FORMAT.read(tmp_path / "x.sqlite", Given())
    assert [t.pose for t in back.series.tilts] == [None] * 9
    assert back.series.tilts[0].nominal_axis_deg == pytest.approx(84, abs=1)
    assert back.series.tilts[0].movie == "1@stacks/TS_1.mrc"
    assert back.series.tilts[0].image is None
    assert any("not aligned" in note for note in back.notes)


def test_a_set_made_by_hand_is_read_by_the_names_of_its_columns(tmp_path: Path) -> None:
    """Columns in an order of their own, one series, no CTF: the axis lies at 90 degrees."""
    file = tmp_path / "ts.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("CREATE TABLE Properties (key TEXT UNIQUE, value TEXT DEFAULT NULL)")
        connection.execute("INSERT INTO Properties VALUES ('self', 'SetOfTiltSeries'), ('_hasAlignment', 'True')")
        for prefix in ("", "a_"):
            connection.execute(
                f"CREATE TABLE {prefix}Classes (id INTEGER, label_property TEXT, column_name TEXT, class_name TEXT)"
            )
        names = {"_tsId": "c02", "_samplingRate": "c01", "_firstDim": "c03"}
        connection.executemany("INSERT INTO Classes VALUES (0, ?, ?, '')", names.items())
        connection.execute("CREATE TABLE Objects (id INTEGER, enabled INTEGER, c01 REAL, c02 TEXT, c03 TEXT)")
        connection.execute("INSERT INTO Objects VALUES (7, 1, 1.5, 'a', '101,80,2')")
        names = {"_transform._matrix": "c01", "_acqOrder": "c03", "_tiltAngle": "c02"}
        connection.executemany("INSERT INTO a_Classes VALUES (0, ?, ?, '')", names.items())
        connection.execute("CREATE TABLE a_Objects (id INTEGER, enabled INTEGER, c01 TEXT, c02 REAL, c03 INTEGER)")
        matrix = "[[0.0, 1.0, 4.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]"
        connection.executemany(
            "INSERT INTO a_Objects VALUES (?, 1, ?, ?, ?)", [(1, matrix, 3.5, 2), (2, matrix, -3.5, 1)]
        )
    (back,) = FORMAT.read(file, Given())
    assert (back.series.pixel_size_angstrom, back.series.image_shape) == (1.5, (80, 101))
    assert [(t.nominal_tilt_deg, t.acquisition) for t in back.series.tilts] == [(-3.5, 0), (3.5, 1)]
    pose = back.series.tilts[0].pose
    # A^-1 = [[0, -1], [1, 0]]: the shift is -A^-1 (4, 0) = (0, -4) px, and half a pixel along the even side
    assert pose.z_rot_deg == pytest.approx(90.0)
    assert (pose.x_shift_angstrom, pose.y_shift_angstrom) == pytest.approx((0.0, -4 * 1.5 - 0.75))


def test_nothing_that_a_database_would_compute_is_followed(tmp_path: Path) -> None:
    """A view in place of a table would count for ever."""
    FORMAT.write(tmp_path, [phantom_series()])
    file = tmp_path / "tiltseries.sqlite"
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE Objects")
        forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
        connection.execute(f"CREATE VIEW Objects AS {forever} SELECT i AS id, 1 AS enabled, i AS c01 FROM n ORDER BY i")
    with pytest.raises(FormatError, match="no set of Scipion"):
        FORMAT.read(file, Given())


def test_names_that_scipion_does_not_allow_are_changed_and_told(tmp_path: Path) -> None:
    written = FORMAT.write(tmp_path, [phantom_series(name="1-a b")])
    assert "1-a b is called TS_1_a_b" in " ".join(written.losses)
    assert FORMAT.read(tmp_path, Given())[0].series.name == "TS_1_a_b"


def test_a_set_of_another_kind_is_told(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    with pytest.raises(FormatError, match="is a SetOfCTFTomoSeries; expected"):
        FORMAT.read(tmp_path / "ctfs.sqlite", Given())
    place = tmp_path / "plain.sqlite"
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
    with pytest.raises(FormatError, match="no set of Scipion"):
        FORMAT.read(place, Given())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no set of tilt series"):
        FORMAT.read(tmp_path / "empty", Given())


def test_damaged_databases_are_told_in_words_and_stay_as_they_are(tmp_path: Path) -> None:
    FORMAT.write(tmp_path, [phantom_series(excluded=True)])
    place = tmp_path / "tiltseries.sqlite"
    whole = place.read_bytes()
    refused = 0
    for copy in damaged_copies(whole, count=12):
        place.write_bytes(copy)
        try:
            FORMAT.read(place, Given())
        except EucentricError:
            refused += 1
        assert place.read_bytes() == copy
    assert refused > 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE TS_1_Objects SET c19 = 'x' WHERE id = 2", "without tiltAngle"),
        ("UPDATE TS_1_Objects SET c19 = 1e300", "far too large"),
        ("UPDATE TS_1_Objects SET c18 = '[[0, 0, 0], [0, 0, 0], [0, 0, 1]]'", "mirrors the image or flattens it"),
        ("DROP TABLE TS_1_Classes", "none called TS_1_Classes"),
        ("DELETE FROM TS_1_Objects", "no images of series TS_1"),
        ("UPDATE Objects SET enabled = 0", "no tilt series that is enabled"),
    ],
)
def test_wrong_values_are_told(tmp_path: Path, change: str, words: str) -> None:
    FORMAT.write(tmp_path, [phantom_series()])
    with closing(sqlite3.connect(tmp_path / "tiltseries.sqlite")) as connection, connection:
        connection.execute(change)
    with pytest.raises(EucentricError, match=words):
        FORMAT.read(tmp_path, Given())
