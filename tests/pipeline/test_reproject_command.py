"""The commands `reproject` and `dual-axis`: files in, files out, and words for wrong input."""

import json

import numpy as np
import pytest
import torch

from eucentric.geometry import TiltGeometry
from eucentric.io.imod import read_angles, write_angles
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.reconstruction.combine_dual_axis import combine_dual_axis
from eucentric.reconstruction.move_volume import RigidMotion
from eucentric.reconstruction.register_volumes import VolumeRegistration
from eucentric.reconstruction.reproject_volume import reproject_volume
from eucentric.simulation import asymmetric_phantom

PHANTOM = asymmetric_phantom(150.0)
VOXEL = 10.0


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "TS_02.mrc"
    write_mrc(path, PHANTOM.volume((36, 40, 44), VOXEL).numpy(), VOXEL, "float16")
    return path


def _table(folder, names=("TS_01", "TS_02")):
    geometries = {}
    series = []
    for number, name in enumerate(names):
        angles = np.array([-40.0, -10.0, 20.0]) + number
        geometry = TiltGeometry.build(angles, z_rot_deg=80.0 + number, shifts_angstrom=[[12.0, -7.0]] * 3)
        tilts = [
            Tilt(
                nominal_tilt_deg=float(a),
                acquisition=i,
                dose=3.0,
                pre_exposure=3.0 * i,
                pose=TiltPose(
                    y_tilt_deg=float(a), z_rot_deg=80.0 + number, x_shift_angstrom=12.0, y_shift_angstrom=-7.0
                ),
            )
            for i, a in enumerate(angles)
        ]
        series.append(TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=5.0, image_shape=(90, 100)))
        geometries[name] = geometry
    (folder / "align").mkdir(parents=True)
    (folder / "eucentric.toml").write_text("")
    write_tilt_series_set(folder / "align" / "tilt_series.star", series, folder)
    return folder / "align" / "tilt_series.star", geometries


def test_an_aligned_series_is_projected_as_its_images_were_taken(program, tomogram, tmp_path):
    table, geometries = _table(tmp_path / "project")
    output = tmp_path / "stack.mrc"
    code, out, err = program(
        "reproject", tomogram, "--geometry", table, "--output", output, "--pixel-size", "5", "--json"
    )
    assert code == 0, err
    # the tomogram bears the name of the second series
    expected = PHANTOM.project(geometries["TS_02"], (90, 100), 5.0).numpy()
    images, header = read_mrc(output)
    assert np.linalg.norm(images - expected) < 0.01 * np.linalg.norm(expected)
    assert header.pixel_size_angstrom == 5.0
    assert not header.is_volume
    np.testing.assert_allclose(read_angles(output.with_suffix(".tlt")), [-39.0, -9.0, 21.0])
    assert json.loads(out.splitlines()[-1])["tilts"] == 3
    code, _, err = program("reproject", tomogram, "--geometry", table, "--output", output)
    assert code == 2
    assert "--overwrite" in err
    code, _, err = program(
        "reproject", tomogram, "--geometry", table, "--series", "TS_01", "--output", output, "--overwrite"
    )
    assert code == 0, err
    images, header = read_mrc(output)
    assert images.shape == (3, 44, 50)  # voxels of 10 A, rounded to even sizes
    expected = PHANTOM.project(geometries["TS_01"], images.shape[1:], VOXEL).numpy()
    assert np.linalg.norm(images - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("kind", ["steps", "file"])
def test_angles_and_axis_are_enough(program, tomogram, tmp_path, kind):
    angles = np.arange(-60.0, 61.0, 30.0)
    write_angles(tmp_path / "a.tlt", angles)
    given = ("--tilts", "-60", "60", "30") if kind == "steps" else ("--angles", tmp_path / "a.tlt")
    output = tmp_path / "stack.mrc"
    code, _, err = program("reproject", tomogram, *given, "--tilt-axis", "-85", "--output", output)
    assert code == 0, err
    geometry = TiltGeometry.build(angles, z_rot_deg=-85.0)
    expected = reproject_volume(torch.from_numpy(read_mrc(tomogram)[0].astype(np.float32)), geometry, voxel_size=VOXEL)
    np.testing.assert_allclose(read_mrc(output)[0], expected.numpy(), atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "No geometry was given"),
        (("--tilts", "0", "10", "5", "--angles", "a.tlt"), "--tilts and --angles was given"),
        (("--tilts", "10", "0", "5"), "a step above zero"),
        (("--tilts", "0", "10", "0"), "a step above zero"),
        (("--tilts", "0", "10", "5", "--series", "TS_01"), "with --geometry only"),
        (("--angles", "missing.tlt"), "does not exist"),
        (("--geometry", "missing.star"), "does not exist"),
        (("--tilts", "0", "10", "5", "--pixel-size", "-3"), "positive"),
    ],
)
def test_wrong_input_is_refused_in_words(program, tomogram, tmp_path, options, words):
    code, _, err = program("reproject", tomogram, "--output", tmp_path / "stack.mrc", *options)
    assert code == 2
    assert words in err
    assert not (tmp_path / "stack.mrc").exists()


def test_a_series_must_be_chosen_and_the_input_is_never_replaced(program, tomogram, tmp_path):
    table, _ = _table(tmp_path / "project", ("TS_05", "TS_06"))
    code, _, err = program("reproject", tomogram, "--geometry", table, "--output", tmp_path / "s.mrc")
    assert code == 2
    assert "TS_05, TS_06" in err
    code, _, err = program("reproject", tomogram, "--tilts", "0", "10", "5", "--output", tomogram, "--overwrite")
    assert code == 2
    assert "is a file that is read" in err


def test_dual_axis_writes_volume_picture_and_motion(program, tomogram, tmp_path, monkeypatch):
    motion = RigidMotion.build(z_deg=90.0, shift=np.array([10.0, 0.0, 0.0]))
    asked = {}

    def register(a, b, geometry_a, geometry_b, *, voxel_size, turn_deg):
        asked.update(tilts=(len(geometry_a), len(geometry_b)), voxel_size=voxel_size, turn_deg=turn_deg)
        return VolumeRegistration(
            motion=motion,
            sigma_shift_angstrom=np.full(3, 0.5),
            sigma_rotation_deg=np.full(3, 0.1),
            correlation=0.9,
            significance=40.0,
            frequency=np.array([0.01]),
            shell_correlation=np.array([0.9]),
            scale=1.0,
        )

    monkeypatch.setattr("eucentric.pipeline.dual_axis.register_volumes", register)
    second = tmp_path / "b.mrc"
    write_mrc(second, PHANTOM.volume((36, 40, 44), VOXEL).numpy(), VOXEL)
    write_angles(tmp_path / "a.tlt", np.arange(-60.0, 61.0, 3.0))
    write_angles(tmp_path / "b.tlt", np.arange(-50.0, 51.0, 5.0))
    output = tmp_path / "combined.mrc"
    options = ("--geometry-a", tmp_path / "a.tlt", "--geometry-b", tmp_path / "b.tlt", "--output", output)
    code, out, err = program("dual-axis", tomogram, second, *options, "--turn", "-95", "--float32", "--json")
    assert code == 0, err
    assert asked == {"tilts": (41, 21), "voxel_size": VOXEL, "turn_deg": -95.0}
    assert "turned by 90.00 degrees about z" in out
    a, b = (torch.from_numpy(read_mrc(p)[0].astype(np.float32)) for p in (tomogram, second))
    geometries = [TiltGeometry.build(read_angles(tmp_path / f"{n}.tlt")) for n in "ab"]
    expected = combine_dual_axis(a, b, motion, *geometries, voxel_size=VOXEL)
    np.testing.assert_allclose(read_mrc(output)[0], expected.numpy(), atol=1e-6)
    record = json.loads(output.with_suffix(".json").read_text())
    np.testing.assert_allclose(record["rotation"], motion.rotation)
    assert 0.0 < record["missing"] < min(record["missing_of_each"])
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(out.splitlines()[-1])["missing"] == record["missing"]
    write_mrc(second, b.numpy(), 12.0)
    code, _, err = program("dual-axis", tomogram, second, *options, "--overwrite")
    assert code == 2
    assert "expected the same" in err
