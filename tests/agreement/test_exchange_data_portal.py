"""Runs of the CryoET Data Portal: its files by cryoet-alignment's own conversions, both ways, and annotations of points."""

import json

import numpy as np
import pytest
from exchange_damage import refused_in_words
from exchange_phantom import SIZES_XY, phantom_series, points, seen
from scipy.spatial.transform import Rotation as Scipy

from eucentric.errors import FormatError, InputError
from eucentric.geometry import Rotation
from eucentric.io.exchange.data_portal import FORMAT
from eucentric.io.exchange.records import Given
from eucentric.io.portal_annotations import read_portal_annotations, write_portal_annotations
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

GIVEN = Given()


def document_of(folder, name="TS_1"):
    return json.loads((folder / name / "Alignments/100/alignment_metadata.json").read_text())


def imod_projection(matrices, shifts, tilts, x_tilts, size_xy, places_px):
    """Where IMOD's newstack and tilt see points: x' = A x + d about the middle (n - 1) / 2, tilt about y after the x-tilt."""
    out = []
    for a, d, tilt, x_tilt in zip(matrices, shifts, tilts, x_tilts, strict=True):
        turn = Scipy.from_euler("y", tilt, degrees=True) * Scipy.from_euler("x", x_tilt, degrees=True)
        aligned = turn.apply(places_px)[:, :2]
        raw = np.linalg.solve(a, (aligned - d).T).T
        out.append(raw + (np.array(size_xy) - 1) / 2)
    return np.array(out)


@pytest.mark.parametrize("size", SIZES_XY)
def test_points_lie_where_the_portals_own_conversion_to_imod_puts_them(tmp_path, size):
    """cryoet-alignment, `to_imod`: A = in_plane_rotation^T, d = -A (x_offset, y_offset); and the .xf beside it says the same."""
    geometry = phantom_series(size_xy=size, x_tilt=True)
    FORMAT.write(tmp_path, [geometry])
    sections = document_of(tmp_path)["per_section_alignment_parameters"]
    a = np.array([np.array(s["in_plane_rotation"]).T for s in sections])
    d = np.array([-m @ [s["x_offset"], s["y_offset"]] for m, s in zip(a, sections, strict=True)])
    tilts, x_tilts = ([s[key] for s in sections] for key in ("tilt_angle", "volume_x_rotation"))
    expected = seen(geometry)[..., :2]
    got = imod_projection(a, d, tilts, x_tilts, size, points() / 2.5)
    np.testing.assert_allclose(got, expected, atol=0.01)
    rows = np.loadtxt(tmp_path / "TS_1/Alignments/100/TS_1.xf")
    listed = [np.loadtxt(tmp_path / f"TS_1/Alignments/100/TS_1{e}") for e in (".tlt", ".xtilt")]
    got = imod_projection(rows[:, :4].reshape(-1, 2, 2), rows[:, 4:], *listed, size, points() / 2.5)
    np.testing.assert_allclose(got, expected, atol=0.05)


@pytest.mark.parametrize("size", SIZES_XY)
def test_the_rotation_and_offsets_are_those_of_aretomo(tmp_path, size):
    """cryoet-alignment, `to_aretomo`: ROT = atan2(R10, R00), TX and TY the offsets; AreTomo's centre as IMOD's."""
    geometry = phantom_series(size_xy=size)
    FORMAT.write(tmp_path, [geometry])
    expected = seen(geometry)[..., :2]
    for i, s in enumerate(document_of(tmp_path)["per_section_alignment_parameters"]):
        r = np.array(s["in_plane_rotation"])
        rot = np.arctan2(r[1, 0], r[0, 0])
        t = np.deg2rad(s["tilt_angle"])
        p = points() / 2.5
        x, y = p[:, 0] * np.cos(t) + p[:, 2] * np.sin(t), p[:, 1]
        got = np.stack([np.cos(rot) * x - np.sin(rot) * y, np.sin(rot) * x + np.cos(rot) * y], 1)
        got += np.array([s["x_offset"], s["y_offset"]]) + (np.array(size) - 1) / 2
        np.testing.assert_allclose(got, expected[i], atol=1e-6)


@pytest.mark.parametrize("size", SIZES_XY)
def test_what_is_written_comes_back(tmp_path, size):
    given = phantom_series(size_xy=size, x_tilt=True, magnification=True, phase_shift=True, excluded=True)
    made = FORMAT.write(tmp_path, [given])
    assert all(f.is_file() for f in made.files)
    (back,) = FORMAT.read(tmp_path, GIVEN)
    np.testing.assert_allclose(seen(back), seen(given), atol=0.02)
    for a, b in zip(given.series.tilts, back.series.tilts, strict=True):
        assert b.nominal_tilt_deg == a.nominal_tilt_deg
        assert b.ctf.defocus_u_angstrom == pytest.approx(a.ctf.defocus_u_angstrom)
        assert b.ctf.defocus_v_angstrom == pytest.approx(a.ctf.defocus_v_angstrom)
        assert b.ctf.astigmatism_angle_deg == pytest.approx(31.5)
        assert b.ctf.phase_shift_deg == pytest.approx(72.0)
        assert b.ctf.max_resolution_angstrom == 6.5
        assert (b.dose, b.pre_exposure, b.acquisition) == pytest.approx((a.dose, a.pre_exposure, a.acquisition))
        assert b.movie == a.movie
        assert b.image == a.image
    assert [e.tilt.nominal_tilt_deg for e in back.series.excluded] == [-20.0, 50.0]
    assert [e.tilt.movie for e in back.series.excluded] == [e.tilt.movie for e in given.series.excluded]
    assert back.series.volume_size_px == given.series.volume_size_px
    assert back.series.optics.voltage_kv == 300.0
    assert back.series.hand == -1.0


def test_losses_are_told_only_of_what_is_there(tmp_path):
    assert FORMAT.write(tmp_path / "a", [phantom_series()]).losses == ()
    words = " ".join(FORMAT.write(tmp_path / "b", [phantom_series(warp=True, hand=1.0, excluded=True)]).losses)
    for text in ("deformation", "rms", "hand", "2 images"):
        assert text in words


def hand_made(tmp_path, **changes):
    """Section 0 of portal run 10445/TS_105_5 and one like it, with numbers of its own and no tilt series beside it."""
    section = {
        "z_index": 0,
        "tilt_angle": -45.03,
        "volume_x_rotation": 0.0,
        "in_plane_rotation": [[-0.11025299807561198, 0.9939035548861564], [-0.9939035548861564, -0.11025299807561198]],
        "x_offset": -16.81,
        "y_offset": -79.316,
    }
    document = {
        "format": "ARETOMO3",
        "tilt_offset": -0.3,
        "volume_offset": {"x": -1, "y": 0, "z": 0},
        "per_section_alignment_parameters": [section | changes, section | {"z_index": 1, "tilt_angle": -42.03}],
    }
    file = tmp_path / "TS_105_5/Alignments/100/alignment_metadata.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(document))
    return file


KNOWN = Given(pixel_size_angstrom=1.54, image_shape=(4096, 4096))


def test_a_run_of_the_portal_alone(tmp_path):
    file = hand_made(tmp_path)
    for place in (file, file.parent, file.parents[1], file.parents[2], tmp_path):
        assert FORMAT.recognises(place)
        (back,) = FORMAT.read(place, KNOWN)
        assert back.series.name == "TS_105_5"
    pose = back.series.tilts[0].pose
    assert pose.z_rot_deg == pytest.approx(-96.3299, abs=1e-4)
    # half a pixel from IMOD's middle to ours
    assert pose.x_shift_angstrom == pytest.approx((-16.81 - 0.5) * 1.54, abs=1e-3)
    assert pose.y_shift_angstrom == pytest.approx((-79.316 - 0.5) * 1.54, abs=1e-3)
    assert any("tilt_offset" in n for n in back.notes)
    assert any("volume_offset" in n for n in back.notes)
    with pytest.raises(InputError, match="--pixel-size"):
        FORMAT.read(file, GIVEN)


def test_older_files_have_the_numbers_of_the_xf(tmp_path):
    """The backend's first converter kept the four numbers of the .xf; its test file is [0.029 1 -1 0.029 55.43 25.56]."""
    old = hand_made(tmp_path / "a", in_plane_rotation=[0.029, 1.0, -1.0, 0.029], x_offset=55.43, y_offset=25.56)
    new = hand_made(
        tmp_path / "b", in_plane_rotation=[[0.029, -1.0], [1.0, 0.029]], x_offset=23.95253, y_offset=-56.17124
    )
    a, b = (FORMAT.read(f, KNOWN)[0].series.tilts[0].pose for f in (old, new))
    for name in ("z_rot_deg", "x_shift_angstrom", "y_shift_angstrom", "magnification"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_plane_rotation": [[1, 0], [0, -1]]}, "mirrors"),
        ({"in_plane_rotation": "x"}, "2 x 2"),
        ({"in_plane_rotation": [[1e308, 1e308], [1e308, 1e308]]}, "mirrors|2 x 2"),
        ({"tilt_angle": None}, "tilt_angle"),
        ({"tilt_angle": float("nan")}, "tilt_angle"),
        ({"x_offset": 10**400}, "x_offset"),
        ({"z_index": 1}, "two alignments of one section"),
        ({"z_index": "a"}, "z_index"),
    ],
)
def test_damaged_alignments_are_refused_in_words(tmp_path, changes, words):
    with pytest.raises(FormatError, match=words):
        FORMAT.read(hand_made(tmp_path, **changes), KNOWN)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "[" * 100000, '{"per_section_alignment_parameters": [1]}', "{}", "\0\1"]
)
def test_files_that_are_no_alignment(tmp_path, text):
    file = hand_made(tmp_path)
    file.write_text(text)
    with pytest.raises(FormatError):
        FORMAT.read(file, KNOWN)


FRAMES = TomogramFrames(
    by_name={
        "TS_01": TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(120, 101, 50)),
        "TS_02": TomogramFrame(voxel_size_angstrom=8.0, size_xyz=(64, 64, 32)),
    }
)


def some():
    return ParticleSet.build(
        ["TS_01", "TS_01", "TS_02"],
        [[100.0, -200, 55], [0, 0, 0], [8, 16, -24]],
        rotations=Rotation.from_relion([20.0, 5, 77], [35.0, 90, 144], [-110.0, 0, 178]).matrices,
        kinds=["Ribosome 70S", "proteasome", "proteasome"],
    )


def test_annotations_are_voxels_and_relions_rotations(tmp_path):
    """The backend's `from_relion4_star`: inverse of scipy's intrinsic ZYZ of RELION's angles; voxels from the first one's middle."""
    files = write_portal_annotations(tmp_path, some(), FRAMES)
    file = tmp_path / "TS_01/Reconstructions/VoxelSpacing10.000/Annotations/100/ribosome_70s-1.0_orientedpoint.ndjson"
    assert file in files
    point = json.loads(file.read_text())
    assert point["location"] == pytest.approx({"x": 70.0, "y": 30.0, "z": 30.5})
    expected = Scipy.from_euler("ZYZ", [20.0, 35.0, -110.0], degrees=True).inv().as_matrix()
    np.testing.assert_allclose(point["xyz_rotation_matrix"], expected, atol=1e-12)
    back = read_portal_annotations(tmp_path, FRAMES)
    assert sorted(back.kinds) == ["Ribosome 70S", "proteasome", "proteasome"]
    for name in ("TS_01", "TS_02"):
        a, b = some().in_tomogram(name), back.in_tomogram(name)
        order = [int(np.argmin(np.linalg.norm(b.positions_angstrom - p, axis=1))) for p in a.positions_angstrom]
        np.testing.assert_allclose(b.positions_angstrom[order], a.positions_angstrom, atol=1e-9)
        np.testing.assert_allclose(b.rotations[order], a.rotations, atol=1e-9)
        assert b.kinds[order].tolist() == a.kinds.tolist()


def test_points_and_instances_made_by_hand(tmp_path):
    file = tmp_path / "103-microtubule-1.0_instancepoint.ndjson"
    file.write_text(
        '{"type": "instancePoint", "location": {"x": 60, "y": 50, "z": 25}, "instance_id": 3}\n\n'
        '{"type": "instancePoint", "location": {"x": 61.5, "y": 50, "z": 25}, "instance_id": 4}\n'
    )
    got = read_portal_annotations(file, FRAMES, "TS_01")
    assert got.positions_angstrom.tolist() == [[0.0, 0.0, 0.0], [15.0, 0.0, 0.0]]
    assert got.columns["eucInstance"].tolist() == [3.0, 4.0]
    assert got.kinds[0] == "microtubule"
    assert not got.oriented
    with pytest.raises(InputError, match="Give the name"):
        read_portal_annotations(file, FRAMES)
    with pytest.raises(InputError, match="tomogram-size"):
        read_portal_annotations(file, FRAMES, "TS_99")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"type": "mask", "location": {"x": 1, "y": 2, "z": 3}}',
        '{"type": "point"}',
        '{"type": "point", "location": {"x": NaN, "y": 2, "z": 3}}',
        '{"type": "point", "location": {"x": 1e300, "y": 2, "z": 3}}',
        '{"type": "orientedPoint", "location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": [[1, 0], [0, 1]]}',
        '{"type": "orientedPoint", "location": {"x": 1, "y": 2, "z": 3}, "xyz_rotation_matrix": [[0,0,0],[0,0,0],[0,0,0]]}',
    ],
)
def test_damaged_annotations_name_their_line(tmp_path, line):
    file = tmp_path / "a-1.0_point.ndjson"
    file.write_text('{"type": "point", "location": {"x": 1, "y": 2, "z": 3}}\n' + line + "\n")
    with pytest.raises(FormatError, match="Line 2"):
        read_portal_annotations(file, FRAMES, "TS_01")


@pytest.mark.parametrize("name", ["Alignments/100/alignment", "TiltSeries/100/tiltseries", "Frames/frames"])
def test_no_damage_gives_a_traceback(tmp_path, name):
    FORMAT.write(tmp_path, [phantom_series(excluded=True, phase_shift=True)])
    assert refused_in_words(tmp_path / f"TS_1/{name}_metadata.json", lambda: FORMAT.read(tmp_path, GIVEN)) > 10


def test_no_damage_to_annotations_gives_a_traceback(tmp_path):
    file, about, *_ = write_portal_annotations(tmp_path, some(), FRAMES)
    assert refused_in_words(file, lambda: read_portal_annotations(file, FRAMES)) > 10
    refused_in_words(about, lambda: read_portal_annotations(file, FRAMES))
