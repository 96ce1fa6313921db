"""The command `denoise`: a tomogram or a project in, filtered tomograms out, and words for wrong input."""

import json

import numpy as np
import pytest

from eucentric.io.mrc import read_mrc, read_mrc_header, write_mrc
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models import CtfFit, Tilt, TiltPose, TiltSeries
from eucentric.models.tilt_series import Tomogram

SHAPE, VOXEL = (24, 28, 30), 10.0


def _volumes(folder, name, *, seed=0, shape=SHAPE):
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    clean = np.zeros(shape, np.float32)
    clean[8:16, 8:20, 10:20] = -2.0
    halves = [0.5 * clean + generator.normal(scale=0.8, size=shape).astype(np.float32) for _ in range(2)]
    for ending, volume in (("", halves[0] + halves[1]), ("_half1", halves[0]), ("_half2", halves[1])):
        write_mrc(folder / f"{name}{ending}.mrc", volume, VOXEL, "float32")
    return clean


def _project(root, names=("TS_01", "TS_02")):
    root.mkdir()
    (root / "eucentric.toml").write_text("")
    made = []
    for number, name in enumerate(names):
        _volumes(root / "reconstruct" / "tomograms", name, seed=number)
        tilts = [
            Tilt(
                nominal_tilt_deg=a,
                acquisition=i,
                dose=3.0,
                pre_exposure=3.0 * i,
                pose=TiltPose(y_tilt_deg=a, z_rot_deg=80.0),
                ctf=CtfFit(defocus_u_angstrom=30000.0 + 100 * abs(a), defocus_v_angstrom=30000.0 + 100 * abs(a)),
            )
            for i, a in enumerate((-40.0, -10.0, 10.0, 50.0))
        ]
        where = f"reconstruct/tomograms/{name}"
        series = TiltSeries.sorted(tilts, name=name, pixel_size_angstrom=5.0, image_shape=(56, 60))
        tomogram = Tomogram(
            path=f"{where}.mrc",
            voxel_size_angstrom=VOXEL,
            shape_zyx=SHAPE,
            half1=f"{where}_half1.mrc",
            half2=f"{where}_half2.mrc",
        )
        made.append(series.replace(tomogram=tomogram))
    for stage in ("import", "reconstruct"):
        write_tilt_series_set(root / stage / "tilt_series.star", made, root)
    return root / "reconstruct" / "tilt_series.star"


def _error(volume, clean):
    return float(((volume - clean) ** 2).mean())


def test_one_tomogram_is_filtered_by_its_halves(program, tmp_path):
    clean = _volumes(tmp_path, "a")
    code, out, err = program(
        "denoise", tmp_path / "a.mrc", "--half1", tmp_path / "a_half1.mrc", "--half2", tmp_path / "a_half2.mrc",
        "--method", "wavelet", "--scales", "3", "--output", tmp_path / "out.mrc", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert "average from the raw data" in out
    told = json.loads(out.splitlines()[-1])
    assert told["figures"]["noise_sigma"] == pytest.approx(0.8 * 2**0.5, rel=0.03)
    assert not told["caveats"]
    volume, header = read_mrc(tmp_path / "out.mrc")
    assert _error(volume, clean) < 0.4 * _error(read_mrc(tmp_path / "a.mrc")[0], clean)
    assert header.voxel_size_angstrom[0] == VOXEL
    assert any("denoised, wavelet" in label and "not to average" in label for label in header.labels)
    for method in ("wavelet", "network"):  # not replaced unasked
        assert program("denoise", tmp_path / "a.mrc", "--method", method, "--output", tmp_path / "out.mrc")[0] == 2


def test_without_halves_and_with_nan_borders_the_user_is_told(program, tmp_path):
    clean = _volumes(tmp_path, "a")
    volume = read_mrc(tmp_path / "a.mrc")[0].astype(np.float32)
    raw = volume.tobytes()
    volume[:, :2], volume[:, :, -3:] = np.nan, np.nan
    content = (tmp_path / "a.mrc").read_bytes()
    (tmp_path / "a.mrc").write_bytes(content[: len(content) - len(raw)] + volume.tobytes())
    code, out, err = program("denoise", tmp_path / "a.mrc", "--method", "nad", "--iterations", "4")
    assert code == 0, err
    assert "No halves" in out
    assert f"{int(np.isnan(volume).sum()):,} voxels were no numbers" in out
    made = read_mrc(tmp_path / "a_nad.mrc")[0]
    assert np.isfinite(made).all()
    inner = (slice(None), slice(6, -6), slice(6, -8))
    assert _error(made[inner], clean[inner]) < 0.5 * _error(volume[inner], clean[inner])


def test_a_project_gets_tomograms_beside_the_raw_ones_and_a_second_run_does_nothing(program, tmp_path):
    table = _project(tmp_path / "p")
    code, out, err = program("denoise", tmp_path / "p", "--method", "bilateral", "--workers", "1")
    assert code == 0, out + err
    assert "average from the raw data" in out
    assert "2 done" in out
    made = read_tilt_series_set(tmp_path / "p" / "denoise" / "tilt_series.star", tmp_path / "p")
    assert [s.tomogram.path for s in made] == [f"denoise/tomograms/{n}.mrc" for n in ("TS_01", "TS_02")]
    assert "2 unchanged" in program("denoise", table, "--method", "bilateral", "--workers", "1")[1]
    assert "2 done" in program("denoise", tmp_path / "p", "--method", "median", "--workers", "1")[1]
    plan = (tmp_path / "p" / "eucentric.toml").read_text()
    assert plan.split() == ["[denoise]", "method", "=", '"median"']  # and later runs of the project agree


def test_one_bad_tomogram_stops_no_other(program, tmp_path):
    _project(tmp_path / "p")
    place = tmp_path / "p" / "reconstruct" / "tomograms"
    (place / "TS_01_half2.mrc").write_bytes((place / "TS_01_half1.mrc").read_bytes())
    code, out, _ = program("denoise", tmp_path / "p", "--method", "wavelet", "--workers", "1")
    assert code == 1
    assert "identical" in out
    assert (tmp_path / "p" / "denoise" / "tomograms" / "TS_02.mrc").is_file()
    assert not (tmp_path / "p" / "denoise" / "tomograms" / "TS_01.mrc").exists()


def test_deconvolution_takes_the_defocus_of_the_low_tilts(program, tmp_path):
    _project(tmp_path / "p")
    code, out, err = program("denoise", tmp_path / "p", "--method", "deconvolve", "--output", "dec", "--workers", "1")
    assert code == 0, err
    assert "not recorded" in out  # nothing tells how these volumes were reconstructed
    record = json.loads((tmp_path / "p" / "dec" / "records" / "TS_01.json").read_text())
    assert record["metrics"]["defocus_angstrom"] == pytest.approx(31000.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--half1", "a_half1.mrc"], "without the other"),
        (["--half1", "a_half1.mrc", "--half2", "a_half1.mrc"], "identical"),
        (["--half1", "a_half1.mrc", "--half2", "b_half2.mrc"], "expected the same size"),
        (["--method", "deconvolve"], "--defocus-angstrom"),
        (["--method", "median", "--median-size", "4"], "odd number"),
        (["--pixel-size", "-2"], "positive"),
        (["--half1", "none.mrc", "--half2", "none.mrc"], "does not exist"),
    ],
)
def test_wrong_input_is_told_in_words(program, tmp_path, monkeypatch, arguments, words):
    _volumes(tmp_path, "a")
    _volumes(tmp_path, "b", shape=(24, 28, 26))
    monkeypatch.chdir(tmp_path)
    filter_meant = [] if "--method" in arguments else ["--method", "wavelet"]
    code, _, err = program("denoise", "a.mrc", *filter_meant, *arguments)
    assert code == 2
    assert words in err
    assert sorted(path.name for path in tmp_path.glob("a*")) == ["a.mrc", "a_half1.mrc", "a_half2.mrc"]


def test_an_unknown_pixel_size_is_asked_for(program, tmp_path):
    _volumes(tmp_path, "a")
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[40:52] = bytes(12)  # no cell, no voxel size
    (tmp_path / "a.mrc").write_bytes(content)
    code, _, err = program("denoise", tmp_path / "a.mrc", "--method", "median")
    assert code == 2
    assert "--pixel-size" in err
    code, _, err = program("denoise", tmp_path / "a.mrc", "--method", "median", "--pixel-size", "12.5")
    assert code == 0, err
    assert read_mrc_header(tmp_path / "a_median.mrc").voxel_size_angstrom[0] == pytest.approx(12.5)


def test_options_of_one_tomogram_do_not_fit_a_project(program, tmp_path):
    _project(tmp_path / "p")
    code, _, err = program("denoise", tmp_path / "p", "--pixel-size", "5")
    assert code == 2
    assert "one tomogram" in err
