"""Files for Dynamo: the stack that IMOD's transforms align, seen along Dynamo's tilts, shows points where we do."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.exchange.dynamo import FORMAT
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.models.tilt_series import Tomogram


@pytest.mark.parametrize("size_xy", SIZES_XY)
@pytest.mark.parametrize("magnification", [False, True])
def test_the_aligned_stack_shows_points_along_the_tilts(tmp_path, size_xy, magnification):
    """newstack: aligned - middle = A (raw - middle) + d; the tomogram's centre n // 2 is seen at n // 2 of the aligned image."""
    geometry = phantom_series(size_xy=size_xy, magnification=magnification)
    FORMAT.write(tmp_path, [geometry])
    angles = np.deg2rad(np.loadtxt(tmp_path / "TS_1.tlt"))
    rows = np.loadtxt(tmp_path / "TS_1.xf")
    assert len(rows) == len(angles) == 11
    n = np.array(size_xy, dtype=float)
    ours = seen(geometry)
    for t, (angle, row) in enumerate(zip(angles, rows, strict=True)):
        for k, (x, y, z) in enumerate(points()):
            aligned = np.array(size_xy) // 2 + np.array([x * np.cos(angle) + z * np.sin(angle), y]) / 2.5
            raw = np.linalg.solve(row[:4].reshape(2, 2), aligned - (n - 1) / 2 - row[4:]) + (n - 1) / 2
            assert np.abs(raw - ours[t, k, :2]).max() < 0.02
            # The height of a point, which Dynamo has no use for, must still be ours.
            assert abs(z * np.cos(angle) - x * np.sin(angle) - ours[t, k, 2]) < 0.02


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_what_was_written_is_read_back(tmp_path, size_xy):
    both = [
        phantom_series(size_xy=size_xy, name="a"),
        phantom_series(size_xy=size_xy, name="b", seed=4, magnification=True),
    ]
    FORMAT.write(tmp_path, both)
    assert FORMAT.recognises(tmp_path)
    assert FORMAT.recognises(tmp_path / "tomograms.vll")
    got = FORMAT.read(tmp_path, Given())
    assert [g.series.name for g in got] == ["a", "b"]
    for one, expected in zip(got, both, strict=True):
        assert one.series.pixel_size_angstrom == 2.5
        assert one.series.image_shape == size_xy[::-1]
        np.testing.assert_allclose(seen(one), seen(expected), atol=0.02)
        for a, b in zip(one.series.poses, expected.series.poses, strict=True):
            assert abs(a.y_tilt_deg - b.y_tilt_deg) < 1e-4
            assert abs(a.z_rot_deg - b.z_rot_deg) < 1e-3


def test_the_volume_list_says_what_dynamo_asks_for(tmp_path):
    geometry = phantom_series()
    tomogram = Tomogram(path="tomograms/TS_1.mrc", voxel_size_angstrom=10.0, shape_zyx=(16, 20, 24))
    geometry = SeriesGeometry(series=geometry.series.replace(tomogram=tomogram))
    written = FORMAT.write(tmp_path, [geometry])
    assert {f.name for f in written.files} == {"TS_1.tlt", "TS_1.xf", "tomograms.vll", "tomograms.doc"}
    lines = (tmp_path / "tomograms.vll").read_text().splitlines()
    assert lines[0] == "tomograms/TS_1.mrc"
    entries = dict(line[1:].strip().split(" = ") for line in lines if line.startswith("*"))
    assert (entries["label"], entries["index"], entries["ftype"], entries["apix"]) == ("TS_1", "1", "1", "10")
    low, high = (float(v) for v in entries["ytilt"].split())
    assert abs(low + 48.5) < 1
    assert abs(high - 51.5) < 1
    assert 3.0 < float(entries["defocus"]) < 3.6
    assert (tmp_path / "tomograms.doc").read_text() == "1\ttomograms/TS_1.mrc\n"
    (got,) = FORMAT.read(tmp_path, Given())
    assert got.series.pixel_size_angstrom == 2.5


def test_one_list(tmp_path):
    FORMAT.write(tmp_path / "cells.vll", [phantom_series()])
    assert sorted(f.name for f in tmp_path.iterdir()) == ["cells.doc", "cells.tlt", "cells.vll", "cells.xf"]
    (got,) = FORMAT.read(tmp_path / "cells.vll", Given(name="x"))
    assert got.series.name == "x"
    np.testing.assert_allclose(seen(got), seen(phantom_series()), atol=0.02)
    with pytest.raises(InputError, match="one file"):
        FORMAT.write(tmp_path / "cells.vll", [phantom_series(name="a"), phantom_series(name="b")])


def test_losses_are_told_with_their_size_and_only_where_there_are_some(tmp_path):
    plain = FORMAT.write(tmp_path / "a", [phantom_series(ctf=False)]).losses
    assert len(plain) == 1
    assert "33.0 e/A2" in plain[0]
    full = FORMAT.write(
        tmp_path / "b", [phantom_series(x_tilt=True, warp=True, excluded=True, phase_shift=True)]
    ).losses
    for words in (
        "about x",
        "local deformation",
        "phase shifts (up to 72",
        "2 excluded",
        "-secs, from 0",
        "astigmatism",
    ):
        assert any(words in loss for loss in full), words
    assert any("0,1,2,4,5,6,7,8,9 (newstack" in loss for loss in full)
    turned = phantom_series(x_tilt=True)
    (sentence,) = [loss for loss in FORMAT.write(tmp_path / "c", [turned]).losses if "about x" in loss]
    size = float(sentence.split("up to ")[1].split(" A")[0])
    flat = SeriesGeometry(
        series=turned.series.with_tilts([replace(t, pose=replace(t.pose, x_tilt_deg=0.0)) for t in turned.series.tilts])
    )
    corner = 0.5 * 2.5 * np.array([[x * 96, y * 80, z * 64] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    moved = np.linalg.norm((seen(turned, corner) - seen(flat, corner))[..., :2], axis=-1) * 2.5
    assert abs(size - moved.max()) < 0.06


STAR = """data_
_centerX 48
_centerY 40.5
_centerZ 0
loop_
_index
_used
_thetas
_psis
_x
_y
1 1 -3 85.2 -10.5 4
2 0 0 85.2 0 0
3 1 3 85.2 2 -6.25
"""


def test_an_alignment_of_dynamo(tmp_path):
    """stackAlignerImod.star as Scipion's plugin takes it: aligned = [[cos, sin], [-sin, cos]] raw + (x, y), about the middle."""
    folder = tmp_path / "cell.AWF" / "align"
    folder.mkdir(parents=True)
    (folder / "stackAlignerImod.star").write_text(STAR)
    given = Given(image_shape=(80, 95), pixel_size_angstrom=2.0)
    for place in (tmp_path, tmp_path / "cell.AWF", folder / "stackAlignerImod.star"):
        assert FORMAT.recognises(place)
        (got,) = FORMAT.read(place, given)
    series = got.series
    assert series.name == "cell"
    assert series.nominal_tilts_deg.tolist() == [-3.0, 3.0]
    assert [e.tilt.nominal_tilt_deg for e in series.excluded] == [0.0]
    c, s = np.cos(np.deg2rad(85.2)), np.sin(np.deg2rad(85.2))
    for tilt, d in zip(series.tilts, [(-10.5, 4.0), (2.0, -6.25)], strict=True):
        pose = tilt.pose
        centre = np.array([95 // 2 + pose.x_shift_angstrom / 2.0, 80 // 2 + pose.y_shift_angstrom / 2.0])
        aligned = np.array([[c, s], [-s, c]]) @ (centre - [47.0, 39.5]) + d
        np.testing.assert_allclose(aligned, 0.0, atol=1e-9)
        assert pose.z_rot_deg == 85.2
    assert any("not documented" in note for note in got.notes)


def test_angles_alone_mean_an_aligned_stack(tmp_path):
    (tmp_path / "a.vll").write_text(
        "# comment\ndata/TS_9_10.00Apx.mrc\n* ytilt = -60 60\n* apix = 10.0\n> table.tbl\nother.mrc\n"
    )
    (tmp_path / "TS_9.tlt").write_text("-3\n0\n3\n")
    (got,) = FORMAT.read(tmp_path / "a.vll", Given(image_shape=(81, 96)))
    assert got.series.name == "TS_9"
    assert got.series.pixel_size_angstrom == 10.0
    assert [(p.x_shift_angstrom, p.y_shift_angstrom, p.z_rot_deg) for p in got.series.poses] == [(0.0, 0.0, 0.0)] * 3
    assert any("aligned" in note for note in got.notes)
    assert any("voxel size" in note for note in got.notes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.vll", "", "no tomogram"),
        ("a.vll", "* apix = 2\n", "before any tomogram"),
        ("a.vll", "a.mrc\n* apix 2\n", "NAME = VALUE"),
        ("a.vll", "a.mrc\n# images: x\n", "expected # images"),
        ("a.vll", "a.mrc\n# images: -2 A, 4 x 5 pixels\n", "positive sizes"),
        ("a.vll", "a.mrc\n* apix = nan\n", "voxel size"),
        ("a.vll", "b.mrc\n", "none has its tilt angles"),
        ("a.vll", "\0.mrc\n" + "x" * 5000 + "\n", "none has its tilt angles"),
        ("stackAlignerImod.star", "loop_\n_index\n1\n", "no table"),
        ("stackAlignerImod.star", STAR + "4 1 x\n", "missing value"),
        ("stackAlignerImod.star", STAR.replace("-10.5", "inf"), "finite"),
        ("stackAlignerImod.star", STAR.replace(" 1 -3", " 0 -3").replace(" 1 3", " 0 3"), "no view"),
    ],
)
def test_damaged_files_are_explained(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    (tmp_path / "a.tlt").write_text("0\n3\n")
    with pytest.raises((InputError, FormatError), match=words):
        FORMAT.read(tmp_path / name, Given(image_shape=(80, 96), pixel_size_angstrom=2.0 if "star" in name else None))


def test_lists_of_unequal_length(tmp_path):
    FORMAT.write(tmp_path, [phantom_series()])
    (tmp_path / "TS_1.tlt").write_text("0\n3\n")
    with pytest.raises(FormatError, match="11 transforms, 2 tilts"):
        FORMAT.read(tmp_path, Given())
    (tmp_path / "empty").mkdir()
    assert not FORMAT.recognises(tmp_path / "empty")
    with pytest.raises(InputError, match="volume list"):
        FORMAT.read(tmp_path / "empty", Given())


def test_mutated_files_never_end_in_a_traceback(tmp_path):
    rng = np.random.default_rng(9)
    FORMAT.write(tmp_path, [phantom_series()])
    originals = {name: (tmp_path / name).read_bytes() for name in ("tomograms.vll", "TS_1.tlt", "TS_1.xf")}
    for _ in range(60):
        for name, raw in originals.items():
            content = bytearray(raw)
            for _ in range(rng.integers(1, 5)):
                content[rng.integers(len(content))] = rng.choice(
                    np.frombuffer(b"0919eE-+. #*=\n\x00\xff", dtype=np.uint8)
                )
            (tmp_path / name).write_bytes(bytes(content))
            FORMAT.recognises(tmp_path)
            with contextlib.suppress(EucentricError):
                FORMAT.read(tmp_path, Given())
            (tmp_path / name).write_bytes(raw)


def test_the_map_of_another_program_is_read_by_its_numbers(shared_data):
    """Our `.doc` is of the same kind as this one."""
    from eucentric.io.particle_columns import read_tomogram_numbers

    names = read_tomogram_numbers(shared_data / "formats/dynamo/tmap_complex.doc")
    assert names[1] == "tomo_ts01"
