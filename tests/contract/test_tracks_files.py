"""Tracks and IMOD models survive their files; positions of other programs land where they belong."""

import struct
from pathlib import Path

import numpy as np
import pytest

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.io.imod_models import read_imod_model, write_imod_model
from eucentric.io.star import read_star_text, write_star
from eucentric.io.tracks import (
    pixels_from_tracks,
    read_marker_table,
    read_tracks,
    read_tracks_model,
    tracks_from_pixels,
    write_tracks,
    write_tracks_model,
)
from eucentric.models import Tracks


def some_tracks() -> Tracks:
    rng = np.random.default_rng(0)
    points, tilts = np.divmod(np.arange(12), 4)
    keep = np.arange(12) != 5  # not every point is seen everywhere
    spread = rng.normal(size=(12, 2, 2))
    covariance = spread @ spread.swapaxes(1, 2) + 0.1 * np.eye(2)
    tracks = Tracks.build(points + 3, tilts, rng.normal(0, 50, (12, 2)), covariance=covariance)
    return tracks.take(keep)


def sorted_rows(tracks: Tracks) -> tuple[np.ndarray, ...]:
    order = np.lexsort((tracks.tilts, tracks.points))
    return tracks.points[order], tracks.tilts[order], tracks.positions_angstrom[order], tracks.covariance[order]


def test_star_round_trip_is_exact(tmp_path: Path) -> None:
    tracks = some_tracks()
    write_tracks(tmp_path / "t.star", tracks, [7, 2, 9, 4], images=[f"a_{i}.mrc" for i in range(4)])
    found = read_tracks(tmp_path / "t.star", [7, 2, 9, 4])
    for a, b in zip(sorted_rows(found), sorted_rows(tracks), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    table = read_star_text(tmp_path / "t.star")["tracks"]
    assert table["rlnMicrographName"][:4] == ["a_0.mrc", "a_1.mrc", "a_2.mrc", "a_3.mrc"]
    assert table["eucAcquisitionIndex"][:4] == ["7", "2", "9", "4"]


def test_star_finds_its_tilts_after_some_were_left_out(tmp_path: Path) -> None:
    tracks = some_tracks()
    write_tracks(tmp_path / "t.star", tracks, [7, 2, 9, 4])
    found = read_tracks(tmp_path / "t.star", [4, 7])
    for tilt, before in ((0, 3), (1, 0)):
        a, b = found.take(found.tilts == tilt), tracks.take(tracks.tilts == before)
        np.testing.assert_allclose(a.positions_angstrom, b.positions_angstrom)
    with pytest.raises(InputError, match="no track"):
        read_tracks(tmp_path / "t.star", [50])


def test_star_made_by_hand(tmp_path: Path) -> None:
    rows = {
        "eucTrackPoint": [0, 0],
        "eucAcquisitionIndex": [1, 0],
        "eucTrackXAngst": [1.5, 2.0],
        "eucTrackYAngst": [-1.0, 4.0],
    }
    write_star(tmp_path / "t.star", {"tracks": rows})
    found = read_tracks(tmp_path / "t.star", [0, 1])
    assert found.tilts.tolist() == [1, 0]
    assert found.covariance.tolist() == [np.eye(2).tolist()] * 2
    write_star(tmp_path / "t.star", {"tracks": {**rows, "eucAcquisitionIndex": [1, 1]}})
    with pytest.raises(FormatError, match="twice"):
        read_tracks(tmp_path / "t.star", [0, 1])
    write_star(tmp_path / "t.star", {"tracks": {**rows, "eucTrackXAngst": ["one", "2"]}})
    with pytest.raises(FormatError, match="eucTrackXAngst"):
        read_tracks(tmp_path / "t.star", [0, 1])
    write_star(tmp_path / "t.star", {"tracks": {"eucTrackPoint": [0]}})
    with pytest.raises(FormatError, match="no column"):
        read_tracks(tmp_path / "t.star", [0, 1])
    with pytest.raises(ShapeError):
        write_tracks(tmp_path / "t.star", some_tracks(), [0, 1])


@pytest.mark.parametrize("shape", [(48, 64), (47, 64), (48, 63)])
def test_pixels(shape: tuple[int, int]) -> None:
    """The centre of the first pixel is 0, that of the image is n // 2."""
    places = np.array([[0.0, 0.0], [32.0, 23.0]])
    tracks = tracks_from_pixels(np.zeros(2, int), np.arange(2), places, image_shape=shape, pixel_size=2.0)
    centre = np.array([shape[1] // 2, shape[0] // 2])
    np.testing.assert_array_equal(tracks.positions_angstrom, (places - centre) * 2.0)
    assert tracks.covariance[0, 0, 0] == 4.0
    np.testing.assert_allclose(
        pixels_from_tracks(tracks, image_shape=shape, pixel_size=2.0), [[0.0, 0.0], [32.0, 23.0]], atol=1e-12
    )


@pytest.mark.parametrize("shape", [(48, 64), (47, 64), (48, 63)])
def test_model_round_trip(tmp_path: Path, shape: tuple[int, int]) -> None:
    tracks = some_tracks()
    write_tracks_model(tmp_path / "t.fid", tracks, image_shape=shape, pixel_size=3.0, sections=[2, 0, 3, 1])
    found = read_tracks_model(tmp_path / "t.fid", image_shape=shape, pixel_size=3.0, sections=[2, 0, 3, 1])
    points, tilts, positions, _ = sorted_rows(found)
    expected = sorted_rows(tracks)
    np.testing.assert_array_equal(points, expected[0] - 3)  # contours are counted from 0
    np.testing.assert_array_equal(tilts, expected[1])
    np.testing.assert_allclose(positions, expected[2], atol=1e-4)


def test_model_puts_the_first_pixel_at_a_half(tmp_path: Path) -> None:
    """3dmod: a point in the middle of the first pixel is at (0.5, 0.5), sections are whole numbers from 0."""
    one, place = np.zeros(1, int), np.array([[0.0, 3.0]])
    tracks = tracks_from_pixels(one, one, place, image_shape=(48, 63), pixel_size=3.0)
    write_tracks_model(tmp_path / "t.fid", tracks, image_shape=(48, 63), pixel_size=3.0, sections=[5])
    model = read_imod_model(tmp_path / "t.fid")
    np.testing.assert_allclose(model.objects[0][0], [[0.5, 3.5, 5.0]], atol=1e-6)
    assert model.image_size == (63, 48, 6)
    assert model.pixel_size_angstrom == 3.0


def test_model_on_a_prealigned_and_binned_stack(tmp_path: Path) -> None:
    """Etomo tracks on images that were moved by the .prexg and binned; both are undone."""
    shape, pixel = (96, 128), 2.0
    angle = np.deg2rad([3.0, -5.0])
    matrices = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angle])
    shifts = np.array([[4.0, -7.0], [1.5, 2.5]])
    raw = np.array([[30.0, 60.0], [71.0, 22.0]])  # pixels from 0
    middle = np.array([128, 96]) / 2
    moved = np.einsum("vij,vj->vi", matrices, raw + 0.5 - middle) + shifts + middle  # newstack, edges at 0
    contour = np.column_stack([moved / 2, [0, 1]])
    write_imod_model(tmp_path / "t.fid", [[contour]], (64, 48, 2), 2 * pixel)
    found = read_tracks_model(
        tmp_path / "t.fid", image_shape=shape, pixel_size=pixel, sections=[0, 1], before=(matrices, shifts)
    )
    np.testing.assert_allclose(pixels_from_tracks(found, image_shape=shape, pixel_size=pixel), raw, atol=1e-4)
    assert found.covariance[0, 0, 0] == 16.0  # one pixel of the binned stack


def test_models_of_imod(shared_data: Path) -> None:
    folder = shared_data / "formats" / "imod_models"
    found = read_imod_model(folder / "two_contour_example.mod")
    assert [len(c) for c in found.objects[0]] == [17, 8]
    np.testing.assert_allclose(found.objects[0][0][0], [64.333336, 64.666667, 80.0], atol=1e-5)
    np.testing.assert_allclose(found.objects[0][1][1], [56.0, 52.666668, 59.0], atol=1e-5)
    assert found.image_size == (128, 128, 128)
    assert found.pixel_size_angstrom == pytest.approx(4.48)
    many = read_imod_model(folder / "multiple_objects_example.mod")  # with meshes
    assert [len(o) for o in many.objects] == [0, 1, 1]
    assert many.names == ("", "chemo-array", "chemo-array")
    sizes = read_imod_model(folder / "point_sizes_example.mod")
    assert [[len(c) for c in o] for o in sizes.objects] == [[4], [3, 3, 3], [5]]
    assert [len(c) for c in read_imod_model(folder / "slicer_angle_example.mod").objects[0]] == [1, 1, 1, 1]


def test_written_models_have_the_layout_of_imod(tmp_path: Path, shared_data: Path) -> None:
    """Offsets of IMOD's format: 8 + 232 bytes of header, 4 + 176 of an object, 4 + 16 of a contour, 12 a point."""
    write_imod_model(tmp_path / "t.mod", [[np.array([[1.0, 2.0, 3.0]])]], (10, 20, 30), 5.0, ["beads"])
    data = (tmp_path / "t.mod").read_bytes()
    theirs = (shared_data / "formats" / "imod_models" / "two_contour_example.mod").read_bytes()
    assert data[:8] == theirs[:8]
    assert struct.unpack(">4i", data[136:152]) == (10, 20, 30, 1)
    assert struct.unpack(">4i", theirs[136:152]) == (128, 128, 128, 1)
    assert data[240:244] == theirs[240:244] == b"OBJT"
    assert data[244:249] == b"beads"
    assert data[420:424] == theirs[420:424] == b"CONT"
    assert struct.unpack(">4i3f", data[424:452]) == (1, 0, 0, 0, 1.0, 2.0, 3.0)
    assert data[452:456] == b"MINX"
    assert data[-4:] == theirs[-4:] == b"IEOF"


def test_damaged_models_are_told(tmp_path: Path) -> None:
    file = tmp_path / "t.mod"
    write_imod_model(file, [[np.ones((4, 3))]], (10, 20, 30), 5.0)
    data = file.read_bytes()
    file.write_bytes(data[:440])
    with pytest.raises(FormatError, match="cut short"):
        read_imod_model(file)
    file.write_bytes(b"IMOD 1\n")
    with pytest.raises(FormatError, match="does not begin"):
        read_imod_model(file)
    with pytest.raises(InputError, match="does not exist"):
        read_imod_model(tmp_path / "none.mod")
    with pytest.raises(ShapeError):
        write_imod_model(file, [[np.ones((4, 2))]], (10, 20, 30), 5.0)
    with pytest.raises(InputError, match="NaN"):
        write_imod_model(file, [[np.full((4, 3), np.nan)]], (10, 20, 30), 5.0)


def test_marker_table(shared_data: Path, tmp_path: Path) -> None:
    table = read_marker_table(shared_data / "real" / "fiducial_tracks" / "markerfile.txt")
    assert len(table.points) == 8 * 59
    angles = np.unique(table.angles_deg)
    assert len(angles) == 59
    tracks = table.tracks(angles, image_shape=(3710, 3710), pixel_size=2.0)
    first = tracks.take((tracks.points == 0) & (tracks.tilts == 0))
    np.testing.assert_allclose(first.positions_angstrom, [[(1113.1 - 1855) * 2, (241.5 - 1855) * 2]])
    with pytest.raises(InputError, match="no tilt"):
        table.tracks(angles[1:], image_shape=(3710, 3710), pixel_size=2.0)
    (tmp_path / "m.txt").write_text("# marker\n 0 -60 -1 -1\n 1 -60.0 5 6\n")
    assert read_marker_table(tmp_path / "m.txt").points.tolist() == [1]
    (tmp_path / "m.txt").write_text("0 -60 5\n")
    with pytest.raises(FormatError, match="Line 1"):
        read_marker_table(tmp_path / "m.txt")
    (tmp_path / "m.txt").write_text("# nothing\n")
    with pytest.raises(FormatError, match="no marker"):
        read_marker_table(tmp_path / "m.txt")
