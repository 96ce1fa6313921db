"""EMAN2's info files: points where EMAN2's own equations see them, both ways, and what damaged files say."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pytest
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import EucentricError, FormatError, InputError
from eucentric.io.exchange.eman2 import FORMAT
from eucentric.io.exchange.records import Given, SeriesGeometry
from eucentric.io.hdf import write_hdf
from eucentric.io.mrc import write_mrc
from eucentric.models import Optics


def eman_matrix(az: float, alt: float, phi: float) -> np.ndarray:
    """Transform's matrix of az, alt, phi, element by element as libEM/transform.cpp lists them."""
    a, b, p = np.deg2rad([az, alt, phi])
    c, s = np.cos, np.sin
    return np.array(
        [
            [c(p) * c(a) - c(b) * s(a) * s(p), c(p) * s(a) + c(b) * c(a) * s(p), s(b) * s(p)],
            [-s(p) * c(a) - c(b) * s(a) * c(p), -s(p) * s(a) + c(b) * c(a) * c(p), s(b) * c(p)],
            [s(b) * s(a), -s(b) * c(a), c(b)],
        ]
    )


def eman_xyz(xtilt: float, ytilt: float, ztilt: float = 0.0) -> np.ndarray:
    """Transform({"type": "xyz", ...}): the angles become az, alt, phi first."""
    x, y = np.deg2rad([xtilt, ytilt])
    az = np.rad2deg(np.arctan2(-np.cos(y) * np.sin(x), np.sin(y))) + 90.0
    alt = np.rad2deg(np.arccos(np.cos(y) * np.cos(x)))
    phi = ztilt + np.rad2deg(np.arctan2(np.sin(x), np.cos(x) * np.sin(y))) - 90.0
    return eman_matrix(az, alt, phi)


def eman_sees(
    info: dict, row: int, place_angstrom: np.ndarray, size_xy: tuple[int, int]
) -> tuple[np.ndarray, float | None]:
    """get_xf_pos of e2tomogram.py and the defocus of make3d of e2spt_extract.py: pixel (x, y) and defocus in um."""
    tpm = info["tlt_params"][row]
    p1 = eman_xyz(tpm[4], tpm[3]) @ (place_angstrom / info["apix_unbin"])
    turn = eman_matrix(0.0, 0.0, tpm[2])  # Transform({"type": "2d", "alpha": tpm[2]})
    x = turn[0, 0] * p1[0] + turn[0, 1] * p1[1] + tpm[0]
    y = turn[1, 0] * p1[0] + turn[1, 1] * p1[1] + tpm[1]
    defocus = None if "defocus" not in info else info["defocus"][row] - p1[2] * info["apix_unbin"] / 10000.0
    return np.array([size_xy[0] // 2 + x, size_xy[1] // 2 + y]), defocus


@pytest.mark.parametrize("size_xy", SIZES_XY)
@pytest.mark.parametrize("x_tilt", [False, True])
def test_eman2_sees_points_and_their_defocus_where_we_do(tmp_path, size_xy, x_tilt):
    geometry = phantom_series(size_xy=size_xy, x_tilt=x_tilt)
    written = FORMAT.write(tmp_path, [geometry])
    assert written.files == (tmp_path / "info" / "TS_1_info.json",)
    info = json.loads(written.files[0].read_text())
    ours = seen(geometry)
    for t, tilt in enumerate(geometry.series.tilts):
        assert int(tilt.image.split("@")[0]) == t + 1
        for k, place in enumerate(points()):
            pixel, defocus = eman_sees(info, t, place, size_xy)
            assert np.abs(pixel - ours[t, k, :2]).max() < 0.01
            expected = tilt.ctf.defocus_angstrom + geometry.series.hand * ours[t, k, 2]
            assert abs(defocus * 1e4 - expected) < 0.1


@pytest.mark.parametrize("size_xy", SIZES_XY)
def test_what_was_written_is_read_back(tmp_path, size_xy):
    geometry = phantom_series(size_xy=size_xy, x_tilt=True)
    FORMAT.write(tmp_path, [geometry])
    assert FORMAT.recognises(tmp_path)
    assert FORMAT.recognises(tmp_path / "info")
    assert FORMAT.recognises(tmp_path / "info" / "TS_1_info.json")
    (got,) = FORMAT.read(tmp_path, Given(image_shape=size_xy[::-1]))
    assert got.series.name == "TS_1"
    assert got.series.pixel_size_angstrom == geometry.series.pixel_size_angstrom
    assert got.series.hand == -1.0
    np.testing.assert_allclose(seen(got), seen(geometry), atol=0.01)
    for a, b in zip(got.series.tilts, geometry.series.tilts, strict=True):
        assert a.image == b.image
        assert abs(a.pose.y_tilt_deg - b.pose.y_tilt_deg) < 1e-4
        assert abs(a.pose.x_tilt_deg - b.pose.x_tilt_deg) < 1e-4
        assert abs(a.pose.z_rot_deg - b.pose.z_rot_deg) < 1e-4
        assert abs(a.ctf.defocus_angstrom - b.ctf.defocus_angstrom) < 0.1
        assert a.ctf.phase_shift_deg == 0.0
    assert abs(got.series.optics.amplitude_contrast - 0.07) < 1e-5
    assert got.series.optics.voltage_kv == 300.0


def test_a_file_written_by_hand(tmp_path):
    """Signs and units of the numbers themselves, without our writer."""
    info = {
        "apix_unbin": 2.0,
        "tlt_file": "tiltseries/cell.hdf",
        "tlt_params": [[3.0, -4.0, -85.0, 20.0, 1.0], [0.0, 0.0, -85.0, 0.0, 0.0], [1.0, 2.0, 275.0, -20.0, 0.0]],
        "ali_loss": [1.0, 0.5, 600.0],
        "defocus": [3.5, 3.4, 3.3],
        "phase": [10.0, 10.0, 10.0],
        "voltage": 200.0,
        "cs": 2.0,
        "boxes_3d": [[10, 20, -5, "manual", 0.0, 0]],
        "class_list": {"0": {"name": "ribosome", "boxsize": 64}},
    }
    (tmp_path / "info").mkdir()
    (tmp_path / "tiltseries").mkdir()
    (tmp_path / "info/cell_info.json").write_text(json.dumps(info))
    write_hdf(tmp_path / "tiltseries/cell.hdf", np.ones((3, 40, 50)), voxel_size_angstrom=2.0, as_images=True)
    (got,) = FORMAT.read(tmp_path, Given())
    series = got.series
    assert series.name == "cell"
    assert series.image_shape == (40, 50)
    tilted, flat = series.tilts
    assert (tilted.pose.y_tilt_deg, tilted.pose.x_tilt_deg, tilted.pose.z_rot_deg) == (-20.0, -1.0, 85.0)
    assert (tilted.pose.x_shift_angstrom, tilted.pose.y_shift_angstrom) == (6.0, -8.0)
    assert flat.image == f"2@{(tmp_path / 'tiltseries/cell.hdf').resolve()}"
    assert [t.ctf.defocus_u_angstrom for t in series.tilts] == [35000.0, 34000.0]
    assert [e.tilt.nominal_tilt_deg for e in series.excluded] == [20.0]
    assert "ali_loss" in series.excluded[0].reason
    assert series.optics.voltage_kv == 200.0
    assert abs(series.optics.amplitude_contrast - np.sin(np.deg2rad(10.0))) < 1e-5
    assert any("amplitude contrast" in note for note in got.notes)
    (other,) = FORMAT.read(tmp_path / "info/cell_info.json", Given(optics=Optics(amplitude_contrast=0.07), name="c"))
    assert abs(other.series.tilts[0].ctf.phase_shift_deg - (10.0 - np.rad2deg(np.arcsin(0.07)))) < 1e-6
    assert other.series.name == "c"


def test_images_of_a_stack_keep_its_order_and_excluded_ones_their_place(tmp_path):
    geometry = phantom_series(excluded=True)
    stack = tmp_path / "stacks" / "TS_1.mrc"
    write_mrc(stack, np.zeros((11, 80, 96), dtype=np.float32), voxel_size_angstrom=2.5)

    def moved(tilt):
        return replace(tilt, image=tilt.image.replace("stacks", str(stack.parent)))

    series = geometry.series.replace(
        tilts=tuple(moved(t) for t in geometry.series.tilts),
        excluded=tuple(replace(e, tilt=moved(e.tilt)) for e in geometry.series.excluded),
    )
    written = FORMAT.write(tmp_path / "project", [SeriesGeometry(series=series)])
    info = json.loads(written.files[0].read_text())
    assert info["tlt_file"] == str(stack)
    assert len(info["tlt_params"]) == 11
    assert [i for i, v in enumerate(info["ali_loss"]) if v >= 500] == [3, 10]
    assert any("ali_loss" in loss and "2 excluded" in loss for loss in written.losses)
    (got,) = FORMAT.read(tmp_path / "project", Given())
    assert got.series.image_shape == (80, 96)
    assert len(got.series.tilts) == 9
    assert sorted(e.tilt.image.split("@")[0] for e in got.series.excluded) == ["11", "4"]
    np.testing.assert_allclose(seen(got), seen(geometry), atol=0.01)
    pair = {t.image: t.ctf.defocus_u_angstrom for t in got.series.tilts}
    for tilt in series.tilts:
        assert abs(pair[tilt.image] - tilt.ctf.defocus_angstrom) < 0.1


@pytest.mark.parametrize("absolute", [False, True])
def test_a_stack_inside_the_project_is_named_from_it(tmp_path, absolute):
    write_mrc(tmp_path / "stacks" / "TS_1.mrc", np.zeros((11, 80, 96), dtype=np.float32), voxel_size_angstrom=2.5)
    series = phantom_series().series
    if absolute:
        series = series.with_tilts(
            [replace(t, image=t.image.replace("stacks", str(tmp_path / "stacks"))) for t in series.tilts]
        )
    (file,) = FORMAT.write(tmp_path, [SeriesGeometry(series=series)]).files
    assert json.loads(file.read_text())["tlt_file"] == "stacks/TS_1.mrc"
    (got,) = FORMAT.read(tmp_path, Given())
    assert got.series.tilts[0].image == f"1@{(tmp_path / 'stacks' / 'TS_1.mrc').resolve()}"


def test_a_phase_plate_and_amplitude_contrast_are_one_number(tmp_path):
    geometry = phantom_series(phase_shift=True)
    info = json.loads(FORMAT.write(tmp_path, [geometry]).files[0].read_text())
    np.testing.assert_allclose(info["phase"], 72.0 + np.rad2deg(np.arcsin(0.07)), atol=1e-5)
    # EMAN2's CTF is cos(gamma - (pi/2 - phase)) = sin(gamma + phase); ours is -sin(chi) with asin(w) and the shift in chi.
    (got,) = FORMAT.read(tmp_path, Given(image_shape=(80, 96)))
    assert all(abs(t.ctf.phase_shift_deg - 72.0) < 1e-4 for t in got.series.tilts)


def test_losses_are_told_with_their_size_and_only_where_there_are_some(tmp_path):
    plain = FORMAT.write(tmp_path / "a", [phantom_series()]).losses
    assert len(plain) == 2
    assert any("900 A (astigmatism)" in loss for loss in plain)
    assert any("33.0 e/A2" in loss for loss in plain)
    full = FORMAT.write(tmp_path / "b", [phantom_series(magnification=True, warp=True, hand=1.0, name="TS__1")]).losses
    for words in ("magnification", "local deformation", "hand +1", "`TS`"):
        assert any(words in loss for loss in full), words
    assert FORMAT.write(tmp_path / "c", [phantom_series(ctf=False, hand=1.0)]).losses == plain[1:]
    no_images = phantom_series()
    bare = no_images.series.with_tilts([replace(t, image=None) for t in no_images.series.tilts])
    assert any(
        "tiltseries/TS_1.hdf" in loss for loss in FORMAT.write(tmp_path / "d", [SeriesGeometry(series=bare)]).losses
    )


def test_boxes_of_a_project_stay_when_its_alignment_is_written(tmp_path):
    place = tmp_path / "info" / "TS_1_info.json"
    place.parent.mkdir()
    place.write_text(json.dumps({"boxes_3d": [[1, 2, 3, "manual", 0.0, 0]], "defocus": [1.0], "tlt_params": []}))
    FORMAT.write(tmp_path, [phantom_series(ctf=False)])
    info = json.loads(place.read_text())
    assert info["boxes_3d"] == [[1, 2, 3, "manual", 0.0, 0]]
    assert len(info["tlt_params"]) == 11
    assert "defocus" not in info


def test_several_series_of_a_project(tmp_path):
    both = [phantom_series(name="a", seed=1), phantom_series(name="b", seed=2)]
    FORMAT.write(tmp_path, both)
    got = FORMAT.read(tmp_path, Given(image_shape=(80, 96)))
    assert [g.series.name for g in got] == ["a", "b"]
    (one,) = FORMAT.read(tmp_path, Given(image_shape=(80, 96), name="b"))
    np.testing.assert_allclose(seen(one), seen(both[1]), atol=0.01)
    with pytest.raises(InputError, match="one file"):
        FORMAT.write(tmp_path / "x_info.json", both)


GOOD = {"apix_unbin": 2.0, "tlt_params": [[0, 0, 0, 0, 0], [0, 0, 0, 3, 0]]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ('{"tlt_params": [[1, 2', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "no named entries"),
        ("\udcff", "not JSON"),
        (json.dumps({"boxes_3d": []}), "has not aligned"),
        (json.dumps({**GOOD, "tlt_params": []}), "empty tlt_params"),
        (json.dumps({**GOOD, "tlt_params": [[1, 2, 3]]}), "tlt_params"),
        (json.dumps({**GOOD, "tlt_params": [[1, 2, 3, 4, 5], [1]]}), "tlt_params"),
        (json.dumps({**GOOD, "tlt_params": [[1, 2, 3, 4, float("nan")]]}), "tlt_params"),
        (json.dumps({**GOOD, "tlt_params": [[1, 2, 3, 4, 10**400]]}), "tlt_params"),
        (json.dumps({**GOOD, "tlt_params": {"a": 1}}), "tlt_params"),
        (json.dumps({**GOOD, "apix_unbin": "x"}), "pixel size"),
        (json.dumps({**GOOD, "apix_unbin": -1}), "pixel size"),
        (json.dumps({**GOOD, "defocus": [1.0]}), "1 defocus"),
        (json.dumps({**GOOD, "defocus": ["a", None]}), "defocus"),
        (json.dumps({**GOOD, "defocus": [1, 2], "phase": [1, 2], "voltage": 1e9}), "voltage"),
    ],
)
def test_damaged_files_are_explained(tmp_path, content, words):
    file = tmp_path / "a_info.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    FORMAT.recognises(file)
    FORMAT.recognises(tmp_path)
    with pytest.raises((InputError, FormatError), match=words):
        FORMAT.read(file, Given(image_shape=(80, 96)))


def test_mutated_files_never_end_in_a_traceback(tmp_path):
    rng = np.random.default_rng(3)
    FORMAT.write(tmp_path, [phantom_series(excluded=True)])
    file = tmp_path / "info" / "TS_1_info.json"
    raw = file.read_bytes()
    other = tmp_path / "m_info.json"
    for _ in range(300):
        bytes_ = bytearray(raw)
        for _ in range(rng.integers(1, 6)):
            bytes_[rng.integers(len(bytes_))] = rng.choice(np.frombuffer(b'0919eE-+.,:[]{}"x\x00\xff', dtype=np.uint8))
        other.write_bytes(bytes(bytes_))
        FORMAT.recognises(other)
        with contextlib.suppress(EucentricError):
            FORMAT.read(other, Given(image_shape=(80, 96)))


def test_a_folder_without_alignments(tmp_path):
    assert not FORMAT.recognises(tmp_path)
    with pytest.raises(InputError, match="no alignment of EMAN2"):
        FORMAT.read(tmp_path, Given())
    FORMAT.write(tmp_path, [phantom_series()])
    with pytest.raises(InputError, match="size of its images"):
        FORMAT.read(tmp_path, Given())
