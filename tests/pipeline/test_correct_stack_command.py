"""The command `correct-stack`: a project in, corrected tilt stacks out, and words for wrong input."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.geometry import TiltGeometry
from eucentric.io.external_alignments import from_imod
from eucentric.io.imod import read_angles, read_transforms
from eucentric.io.mrc import MrcSlabWriter, read_mrc, write_mrc
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models import CtfFit, Optics, Specimen, Tilt, TiltPose, TiltSeries
from eucentric.pipeline import corrected_series
from eucentric.reconstruction import assumed_signal_to_noise, correct_ctf, estimate_signal_to_noise

PIXEL, SHAPE = 4.0, (72, 80)
ANGLES = (-48.0, -3.0, 0.0, 51.0)
EXPOSURES = np.array([36.0, 12.0, 0.0, 48.0])
DOSE = 6.0


def _series(root, name, *, ctf=True):
    generator = torch.Generator().manual_seed(len(name) + ord(name[-1]))
    even, odd = 40.0 + 4.0 * torch.randn((2, len(ANGLES), *SHAPE), generator=generator)
    for part, images in (("", even + odd), ("_even", even), ("_odd", odd)):
        write_mrc(root / f"{name}{part}.mrc", images.numpy(), PIXEL, "float32", is_volume=False)
    fit = CtfFit(defocus_u_angstrom=21000.0, defocus_v_angstrom=20000.0, astigmatism_angle_deg=20.0)
    tilts = [
        Tilt(
            nominal_tilt_deg=angle,
            nominal_axis_deg=85.0,
            acquisition=int(EXPOSURES[i] / DOSE),
            dose=DOSE,
            pre_exposure=float(EXPOSURES[i]),
            image=f"{i + 1}@{name}.mrc",
            image_even=f"{i + 1}@{name}_even.mrc",
            image_odd=f"{i + 1}@{name}_odd.mrc",
            pose=TiltPose(
                y_tilt_deg=angle + 1.5, z_rot_deg=83.0, x_tilt_deg=0.4, x_shift_angstrom=9.0 - 3.0 * i, y_shift_angstrom=5.0 * i
            ),
            ctf=fit if ctf else None,
        )
        for i, angle in enumerate(ANGLES)
    ]  # fmt: skip
    return TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=PIXEL, image_shape=SHAPE, hand=-1.0)


def _write(root, series, stage="ctf"):
    write_tilt_series_set(root / stage / "tilt_series.star", series, root)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "eucentric.toml").write_text("")
    series = [_series(folder, name) for name in ("TS_01", "TS_02")]
    for stage in ("import", "ctf"):
        _write(folder, series, stage)
    return folder


def _expected(series, images, mode, *, poses=None, **changes):
    return correct_ctf(
        images, TiltGeometry.from_poses(poses or series.poses), pixel_size=PIXEL, fits=[t.ctf for t in series.tilts],
        optics=Optics(), hand=-1.0, mode=mode, **changes,
    )  # fmt: skip


def _stack(path):
    return torch.from_numpy(np.array(read_mrc(path)[0], dtype=np.float32))


def test_stacks_are_what_reconstruct_corrects_for_itself(program, root):
    output = root / "corrected"
    code, out, err = program("correct-stack", root, "--output", output, "--float32", "--json")
    assert code == 0, err
    assert json.loads(out.splitlines()[-1])["stacks"] == [str(output / f"TS_0{n}.mrc") for n in (1, 2)]
    for series in read_tilt_series_set(root / "ctf" / "tilt_series.star", root):
        stack, header = read_mrc(output / f"{series.name}.mrc")
        assert (header.pixel_size_angstrom, header.is_volume, header.mode) == (PIXEL, False, 2)
        assert any("phases flipped" in label for label in header.labels)
        images = _stack(root / f"{series.name}.mrc")
        expected = _expected(series, images, "flip")
        torch.testing.assert_close(torch.from_numpy(np.array(stack)), expected, rtol=0, atol=1e-4)
        assert float((expected - images).std()) > 1.0  # the correction does something
        np.testing.assert_allclose(read_angles(output / f"{series.name}.rawtlt"), ANGLES)
        np.testing.assert_allclose(read_angles(output / f"{series.name}.tlt"), np.add(ANGLES, 1.5))
        np.testing.assert_allclose(read_angles(output / f"{series.name}.xtilt"), 0.4)
    assert program("correct-stack", root, "--output", root / "half", "--only", "TS_01")[0] == 0
    stack, header = read_mrc(root / "half" / "TS_01.mrc")
    assert header.mode == 12
    np.testing.assert_allclose(stack, read_mrc(output / "TS_01.mrc")[0], atol=0.05)  # 11 bits of some 80 counts


@pytest.mark.parametrize("mode", ["wiener", "multiply"])
def test_halves_exposures_and_envelopes(program, root, mode):
    output = root / "corrected"
    words = ("--mode", mode, "--dose-weighting", "--b-factor", 60, "--halves", "--defocus-tolerance-angstrom", 40)
    code, _, err = program("correct-stack", root, "--output", output, "--only", "TS_02", "--float32", *words)
    assert code == 0, err
    series = read_tilt_series_set(root / "ctf" / "tilt_series.star", root)[1]
    even, odd = (_stack(root / f"TS_02_{half}.mrc") for half in ("even", "odd"))
    envelope = {"exposures": EXPOSURES + 0.5 * DOSE, "b_factor_angstrom2": 60.0}
    ratio = estimate_signal_to_noise(
        even, odd, pixel_size=PIXEL, fits=[t.ctf for t in series.tilts], optics=Optics(), **envelope
    )
    options = {"signal_to_noise": ratio, "defocus_tolerance_angstrom": 40.0, **envelope}
    for ending, images in (("", even + odd), ("_half1", even), ("_half2", odd)):
        expected = _expected(series, images, mode, **options)
        torch.testing.assert_close(_stack(output / f"TS_02{ending}.mrc"), expected, rtol=0, atol=2e-4)
    # nothing that was done is done again by what reads the table
    made = read_tilt_series_set(output / "tilt_series.star", root)[0]
    assert not made.has_ctf
    assert made.has_halves
    assert not made.pre_exposures.any()
    assert not made.doses.any()
    assert [t.image for t in made.tilts] == [f"{i + 1}@corrected/TS_02.mrc" for i in range(4)]


def test_without_halves_the_ratio_is_a_usual_one_and_none_are_written(program, root):
    series = [
        s.with_tilts([replace(t, image_even=None, image_odd=None) for t in s.tilts])
        for s in read_tilt_series_set(root / "ctf" / "tilt_series.star", root)
    ]
    _write(root, series)
    code, _, err = program(
        "correct-stack", root, "--output", root / "w", "--mode", "wiener", "--float32", "--only", "TS_01"
    )
    assert code == 0, err
    expected = _expected(series[0], _stack(root / "TS_01.mrc"), "wiener", signal_to_noise=assumed_signal_to_noise(DOSE))
    torch.testing.assert_close(_stack(root / "w" / "TS_01.mrc"), expected, rtol=0, atol=1e-4)
    code, _, err = program("correct-stack", root, "--output", root / "h", "--halves")
    assert code == 1
    assert "even and odd" in err


def test_transforms_lead_back_to_the_alignment(program, root):
    assert program("correct-stack", root, "--output", root / "c", "--only", "TS_01", "--pixel-size", 5.0)[0] == 0
    stack, header = read_mrc(root / "c" / "TS_01.mrc")
    assert stack.shape == (4, 58, 64)
    assert header.pixel_size_angstrom == 5.0
    back = from_imod(
        *read_transforms(root / "c" / "TS_01.xf"), read_angles(root / "c" / "TS_01.tlt"), source="",
        x_tilts_deg=read_angles(root / "c" / "TS_01.xtilt"),
    )  # fmt: skip
    series = read_tilt_series_set(root / "ctf" / "tilt_series.star", root)[0]
    middle = np.array([0.5, 0.5])  # of an even number of pixels, beside ours
    for view, pose in zip(back.views, series.poses, strict=True):
        assert view.z_rot_deg == pytest.approx(83.0, abs=1e-4)
        assert view.y_tilt_deg == pytest.approx(pose.y_tilt_deg)
        # the specimen centre lies where our n // 2 of the aligned image is
        turn = np.deg2rad(83.0)
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        centre = np.array(view.shift) + matrix @ middle - middle
        np.testing.assert_allclose(5.0 * centre, [pose.x_shift_angstrom, pose.y_shift_angstrom], atol=0.01)


def test_an_aligned_stack_has_its_axis_upright_and_reconstructs_alike(program, root):
    output = root / "aligned"
    code, _, err = program("correct-stack", root, "--output", output, "--only", "TS_01", "--aligned", "--float32")
    assert code == 0, err
    made = read_tilt_series_set(output / "tilt_series.star", root)[0]
    assert made.image_shape == SHAPE[::-1]  # the axis lay along x
    assert not (output / "TS_01.xf").exists()
    assert {p.z_rot_deg for p in made.poses} == {0.0}
    assert not TiltGeometry.from_poses(made.poses).shifts_angstrom.any()
    options = ("--method", "wbp", "--pixel-size-angstrom", 8, "--thickness-angstrom", 80, "--no-half-volumes")
    volumes = []
    for folder, table, more in (
        ("a", output / "tilt_series.star", ()),
        ("b", root / "ctf" / "tilt_series.star", ("--ctf-correction", "flip", "--only", "TS_01")),
    ):
        code, _, err = program("reconstruct", table, *options, *more, "--output", folder, "--workers", 1)
        assert code == 0, err
        volumes.append(_stack(root / folder / "tomograms" / "TS_01.mrc")[:, 10:-10, 10:-10])
    # volumes have the field of view of their images, which is turned; where both see, they agree
    y, x = (min(a, b) for a, b in zip(volumes[0].shape[1:], volumes[1].shape[1:], strict=True))
    one, two = (v[:, (v.shape[1] - y) // 2 :, (v.shape[2] - x) // 2 :][:, :y, :x].flatten().numpy() for v in volumes)
    assert np.corrcoef(one, two)[0, 1] > 0.98


def test_strips_follow_the_inclination_that_is_left_of_the_specimen(program, root):
    series = read_tilt_series_set(root / "ctf" / "tilt_series.star", root)[:1]
    specimen = Specimen(
        thickness_angstrom=900.0, thickness_sigma_angstrom=50.0, y_tilt_deg=12.0, pre_tilt_y_sigma_deg=1.0,
        pre_tilt_x_sigma_deg=1.0, z_angstrom=400.0, z_sigma_angstrom=20.0,
    )  # fmt: skip
    _write(root, [series[0].replace(specimen=specimen)])
    assert program("correct-stack", root, "--output", root / "c", "--mode", "multiply", "--float32")[0] == 0
    poses = [replace(p, y_tilt_deg=p.y_tilt_deg + 12.0) for p in series[0].poses]
    images, found = _stack(root / "TS_01.mrc"), _stack(root / "c" / "TS_01.mrc")
    inclined = (found - _expected(series[0], images, "multiply", poses=poses)).std()
    level = (found - _expected(series[0], images, "multiply")).std()
    assert inclined < 0.02 * found.std()  # the order of rotations leaves a little of the tilt about x
    assert level > 5.0 * inclined


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "TS_09"], "no tilt series called `TS_09`"),
        (["--defocus-tolerance-angstrom", "-5"], "defocus tolerance"),
        (["--b-factor", "100"], "--mode wiener"),
        (["--pixel-size", "-1"], "positive"),
        (["--mode", "divide"], "divide"),
    ],
)
def test_wrong_input_is_told_in_words(program, root, arguments, words):
    code, _, err = program("correct-stack", root, "--output", root / "c", *arguments)
    assert code == 2
    assert words in err
    assert not (root / "c").exists()


def test_without_a_ctf_the_command_to_run_is_named(program, root, tmp_path):
    _write(root, [_series(root, "TS_01", ctf=False)], "align")
    code, _, err = program("correct-stack", root / "align" / "tilt_series.star", "--output", root / "c")
    assert code == 1
    assert "eucentric ctf" in err
    (root / "ctf" / "tilt_series.star").rename(root / "gone.star")
    code, _, err = program("correct-stack", root, "--output", root / "c")
    assert code == 2
    assert f"eucentric ctf {root}" in err
    missing = "does not exist"
    for place, said in (
        (tmp_path / "nowhere", missing),
        (tmp_path / "none.star", missing),
        (tmp_path, "is not a project"),
    ):
        code, _, err = program("correct-stack", place, "--output", root / "c")
        assert code == 2
        assert said in err
    assert not (root / "c").exists()


def test_a_series_without_its_images_does_not_stop_the_others(program, root):
    (root / "TS_01.mrc").unlink()
    code, out, err = program("correct-stack", root, "--output", root / "c", "--json")
    assert code == 1
    assert "TS_01 failed" in err
    assert "TS_01.mrc" in err
    result = json.loads(out.splitlines()[-1])
    assert list(result["failed"]) == ["TS_01"]
    assert result["stacks"] == [str(root / "c" / "TS_02.mrc")]
    assert sorted(p.name for p in (root / "c").glob("*.mrc")) == ["TS_02.mrc"]
    assert [s.name for s in read_tilt_series_set(root / "c" / "tilt_series.star", root)] == ["TS_02"]


def test_nothing_is_replaced_unasked_and_the_table_keeps_what_was_made_before(program, root, tmp_path):
    output = tmp_path / "elsewhere"  # outside of the project
    assert program("correct-stack", root, "--output", output, "--only", "TS_01")[0] == 0
    assert program("correct-stack", root, "--output", output, "--only", "TS_02")[0] == 0
    listed = read_tilt_series_set(output / "tilt_series.star", tmp_path)
    assert [s.name for s in listed] == ["TS_01", "TS_02"]
    assert listed[0].tilts[0].image == f"1@{(output / 'TS_01.mrc').resolve()}"
    code, _, err = program("correct-stack", root, "--output", output)
    assert code == 2
    assert "--overwrite" in err
    assert program("correct-stack", root, "--output", output, "--overwrite", "--aligned")[0] == 0
    assert not (output / "TS_01.xf").exists()  # of the call before
    code, _, err = program("correct-stack", root, "--output", root, "--overwrite")
    assert code == 1  # over the images themselves
    assert "a file that is read" in err


@pytest.mark.parametrize("fault", ["interrupt", "full disk"])
def test_what_stops_in_the_middle_leaves_no_half_file(program, root, monkeypatch, fault):
    calls = []

    def disturbed(self, slab):
        calls.append(slab)
        if len(calls) == 2:
            raise KeyboardInterrupt if fault == "interrupt" else OSError(errno.ENOSPC, "No space left on device")
        return plain(self, slab)

    plain = MrcSlabWriter.write
    monkeypatch.setattr(corrected_series.MrcSlabWriter, "write", disturbed)
    code, _, err = program("correct-stack", root, "--output", root / "c")
    if fault == "interrupt":
        assert code == 130
        assert not any(p for p in (root / "c").rglob("*") if p.is_file())
    else:
        assert code == 1
        assert "full" in err
        assert sorted(p.name for p in (root / "c").glob("*.mrc")) == ["TS_02.mrc"]
        assert not list((root / "c").glob(".*"))
