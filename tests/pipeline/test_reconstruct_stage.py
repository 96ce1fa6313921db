"""The command `reconstruct` on small series with known density: every method, form of output, and refusal."""

import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from eucentric.cli import main
from eucentric.geometry import TiltGeometry
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.tilt_series import read_tilt_series_set, write_tilt_series_set
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries
from eucentric.optics import ctf_2d
from eucentric.pipeline.records import read_record
from eucentric.pipeline.stages.reconstruct import Reconstruct
from eucentric.reconstruction import ReconstructParams
from eucentric.reconstruction.params import METHODS_OF
from eucentric.simulation import asymmetric_phantom

NAME, PIXEL, SHAPE, MEAN = "TS_01", 8.0, (60, 66), 100.0
TILTS = np.arange(-60.0, 61.0, 10.0)
PHANTOM = asymmetric_phantom(150.0)
GEOMETRY = TiltGeometry.build(TILTS, z_rot_deg=30.0, shifts_angstrom=[[9.0, -14.0]] * len(TILTS))
DEFOCUS = 30000.0
OPTICS = Optics()
VOLUME = (40, *SHAPE)


def _series(folder, *, ctf=True, halves=True, optics=True):
    """A project whose series is aligned and has its CTF: dark blobs, seen through the CTF, over counts."""
    contrast = PHANTOM.project(GEOMETRY, SHAPE, PIXEL)
    contrast = 0.1 * contrast / contrast.max()
    if ctf:
        transfer = ctf_2d(SHAPE, PIXEL, DEFOCUS, DEFOCUS, 0.0, OPTICS)
        contrast = torch.fft.irfft2(torch.fft.rfft2(contrast) * transfer, s=SHAPE)
    generator = torch.Generator().manual_seed(3)
    (folder / "images").mkdir(parents=True)
    (folder / "eucentric.toml").write_text("")
    names = {}
    for part, share in (("even", 0.5), ("odd", 0.5), ("", 1.0)):
        if not halves and part:
            continue
        noise = 0.004 * MEAN * math.sqrt(0.5) * torch.randn(contrast.shape, generator=generator)
        names[part] = MEAN * share * (1.0 + contrast) + noise
    if halves:
        names[""] = names["even"] + names["odd"]
    for part, images in names.items():
        write_mrc(folder / "images" / f"{part or 'sum'}.mrc", images.numpy(), PIXEL, "float32", is_volume=False)
    tilts = [
        Tilt(
            nominal_tilt_deg=float(tilt),
            acquisition=t,
            dose=2.0,
            pre_exposure=2.0 * abs(t - len(TILTS) // 2),
            image=f"{t + 1}@images/sum.mrc",
            image_even=f"{t + 1}@images/even.mrc" if halves else None,
            image_odd=f"{t + 1}@images/odd.mrc" if halves else None,
            pose=TiltPose(y_tilt_deg=float(tilt), z_rot_deg=30.0, x_shift_angstrom=9.0, y_shift_angstrom=-14.0),
            ctf=CtfFit(defocus_u_angstrom=DEFOCUS, defocus_v_angstrom=DEFOCUS) if ctf else None,
        )
        for t, tilt in enumerate(TILTS)
    ]
    series = TiltSeries.sorted(
        tilts,
        name=NAME,
        pixel_size_angstrom=PIXEL,
        image_shape=SHAPE,
        optics=OPTICS if optics else None,
        thickness_angstrom=VOLUME[0] * PIXEL if optics else None,
    )
    (folder / "ctf").mkdir()
    write_tilt_series_set(folder / "ctf" / "tilt_series.star", [series], folder)
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return _series(tmp_path_factory.mktemp("given") / "project")


@pytest.fixture
def project(given, tmp_path):
    shutil.copytree(given, tmp_path / "project")
    return tmp_path / "project"


def reconstruct(project, *words, code=0):
    """Run the command on the table of the project; the folder of its results."""
    table = project / "ctf" / "tilt_series.star"
    if "--output" not in words:  # there settings are not kept for the next run
        words = (*words, "--output", "result")
    arguments = ["reconstruct", table, "--workers", 1, "--device", "cpu", *words]
    assert main.run([str(a) for a in arguments]) == code
    return project / words[words.index("--output") + 1]


def volume(folder, ending="", name=NAME):
    return np.array(read_mrc(folder / "tomograms" / f"{name}{ending}.mrc")[0], dtype=np.float32)


def mrc_mode(path):
    return int(np.frombuffer(path.read_bytes()[12:16], dtype="<i4")[0])


def metrics(folder):
    return read_record(folder, NAME).metrics


def likeness(found, voxel=PIXEL):
    """Correlation with the truth, without what is so coarse that no CTF shows it."""
    truth = -PHANTOM.volume(found.shape, voxel).numpy()
    found, truth = (v - gaussian_filter(v, 50.0 / voxel) for v in (found.astype(np.float32), truth))
    return float(np.corrcoef(found.ravel(), truth.ravel())[0, 1])


CORRECTIONS = {"ctf": (), "fourier": ("--ctf-correction", "wiener")}
SLIGHT = ("--pixel-size-angstrom", "16", "--no-half-volumes")


@pytest.mark.parametrize("method", ["wbp", "sirt-like", "sirt", "cgls", "tv", "ctf", "fourier"])
def test_every_method_shows_the_specimen(project, method):
    folder = reconstruct(project, "--method", method, *CORRECTIONS.get(method, ("--ctf-correction", "flip")), *SLIGHT)
    found = volume(folder)
    assert found.shape == (20, 30, 32)
    assert np.isfinite(found).all()
    right = likeness(found, 16.0)
    assert right > 0.35
    for wrong in (found[::-1], found[:, ::-1], found[:, :, ::-1]):
        assert likeness(wrong, 16.0) < right - 0.2
    header = read_mrc(folder / "tomograms" / f"{NAME}.mrc")[1]
    assert header.pixel_size_angstrom == pytest.approx(16.0)
    assert any(method in label and "protein dark" in label for label in header.labels)
    figures = metrics(folder)
    assert figures["voxel_size_angstrom"] == 16.0
    assert figures["tilts"] == len(TILTS)
    iterative = method in ("sirt", "cgls", "tv", "ctf")
    assert ("iterations" in figures) == iterative
    assert (folder / "previews" / f"{NAME}.png").is_file() == iterative
    if iterative:
        curve = np.load(folder / "curves" / f"{NAME}.npz")["residual"]
        assert len(curve) == figures["iterations"]
        assert curve[-1] == pytest.approx(figures["last_residual"])
    (series,) = read_tilt_series_set(folder / "tilt_series.star", project)
    assert series.tomogram.shape_zyx == (20, 30, 32)
    assert (project / series.tomogram.path).is_file()


def test_iterations_and_subsets_are_those_asked_for(project):
    folder = reconstruct(
        project,
        "--method",
        "sirt",
        "--iterations",
        3,
        "--subsets",
        4,
        "--least-change",
        0,
        "--constraint",
        "dark",
        *SLIGHT,
    )
    assert metrics(folder)["iterations"] == 3
    assert volume(folder).max() <= 0.0


@pytest.mark.parametrize(
    ("words", "method", "correction", "extent"),
    [
        (("--for", "view"), "ctf", "none", "field"),
        (("--for", "picking"), "ctf", "none", "wide"),
        (("--for", "averaging"), "wbp", "flip", "wide"),
        (("--for", "segmentation"), "sirt-like", "flip", "field"),
        (("--for", "averaging", "--ctf-correction", "none"), "wbp", "none", "wide"),
        (("--for", "averaging", "--method", "cgls", "--extent", "field"), "cgls", "flip", "field"),
        ((), "ctf", "none", "field"),
    ],
)
def test_a_purpose_stands_for_settings(project, words, method, correction, extent):
    folder = reconstruct(project, *words, *SLIGHT, "--output", "one")
    assert any(f" {method}," in label for label in read_mrc(folder / "tomograms" / f"{NAME}.mrc")[1].labels)
    spelt = reconstruct(
        project, "--method", method, "--ctf-correction", correction, "--extent", extent, *SLIGHT, "--output", "two"
    )
    np.testing.assert_array_equal(volume(folder), volume(spelt))


def test_auto_depends_on_what_is_known(tmp_path):
    settings = ReconstructParams()
    for ctf in (False, True):
        for halves in (False, True):
            expected = "ctf" if ctf and halves else "wbp"
            assert settings.resolved(has_ctf=ctf, has_halves=halves).method == expected
        for purpose in ("view", "picking", "averaging", "segmentation"):
            chosen = ReconstructParams(purpose=purpose).resolved(has_ctf=ctf, has_halves=False)
            assert "auto" not in (chosen.method, chosen.ctf_correction)
            if not ctf:
                assert chosen.method != "ctf"
                assert chosen.ctf_correction == "none"
    project = _series(tmp_path / "stem", ctf=False, halves=False, optics=False)
    folder = reconstruct(project, "--pixel-size-angstrom", "16")
    header = read_mrc(folder / "tomograms" / f"{NAME}.mrc")[1]
    assert any(" wbp," in label and "as recorded" in label for label in header.labels)
    assert not list((folder / "tomograms").glob("*half*"))
    assert -likeness(volume(folder), 16.0) > 0.35  # bright blobs are recorded bright
    # as deep as wide
    assert volume(folder).shape == (30, 30, 32)


@pytest.mark.parametrize("method", ["wbp", "ctf"])
def test_halves_are_those_of_frames_and_sum_to_the_whole(project, method):
    folder = reconstruct(project, "--method", method, "--pixel-size-angstrom", "16", "--volume-type", "float32")
    whole, first, second = (volume(folder, ending) for ending in ("", "_half1", "_half2"))
    np.testing.assert_allclose(first + second, whole, rtol=0, atol=2e-3 * np.abs(whole).max())
    assert np.abs(first - second).max() > 1e-3 * np.abs(whole).max()
    figures = metrics(folder)
    assert 0.2 < figures["halves_fsc_area"] < 1.0
    assert figures["halves_fsc_0143_angstrom"] >= 32.0
    curves = np.load(folder / "curves" / f"{NAME}.npz")
    assert len(curves["fsc"]) == len(curves["fsc_frequency"])
    assert ("signal_to_noise" in curves) == (method == "ctf")


def test_the_agreement_of_halves_does_not_count_the_removed_mean(project):
    folder = reconstruct(project, "--method", "wbp")
    with np.load(folder / "curves" / f"{NAME}.npz") as curves:
        frequency, correlation = curves["fsc_frequency"], curves["fsc"]
    told = metrics(folder)
    voxel = told["voxel_size_angstrom"]
    assert frequency[0] == pytest.approx(1.5 / (2 * (len(frequency) + 1) * voxel))  # the second shell
    first = np.flatnonzero(correlation < 0.143)
    expected = 1.0 / frequency[first[0]] if len(first) else 2.0 * voxel
    assert told["halves_fsc_0143_angstrom"] == pytest.approx(expected)


@pytest.mark.parametrize("method", ["wbp", "ctf"])
def test_halves_of_tilts(project, method):
    words = ("--method", method, "--halves", "tilts", "--pixel-size-angstrom", 16)
    folder = reconstruct(project, *words)
    first, second = volume(folder, "_half1"), volume(folder, "_half2")
    assert likeness(volume(folder), 16.0) > max(likeness(first, 16.0), likeness(second, 16.0)) > 0.25
    steep = reconstruct(project, *words, "--max-tilt-deg", 40, "--output", "steep")
    assert metrics(steep)["tilts"] == 9


def test_more_pixel_sizes(project):
    words = ("--method", "sirt", "--iterations", 2, "--least-change", 0)
    folder = reconstruct(project, *words, *SLIGHT, "--more-pixel-sizes-angstrom", 20, "--more-pixel-sizes-angstrom", 32)
    for ending, voxel, shape in (
        ("", 16.0, (20, 30, 32)),
        ("_20.00A", 20.0, (16, 24, 26)),
        ("_32.00A", 32.0, (10, 14, 16)),
    ):
        data, header = read_mrc(folder / "tomograms" / f"{NAME}{ending}.mrc")
        assert header.pixel_size_angstrom == pytest.approx(voxel)
        np.testing.assert_allclose(data.shape, shape, atol=2)
        assert likeness(np.array(data, dtype=np.float32), voxel) > 0.3
    (series,) = read_tilt_series_set(folder / "tilt_series.star", project)
    assert series.tomogram.voxel_size_angstrom == 16.0
    alone = reconstruct(project, *words, *SLIGHT, "--output", "alone")
    # the figures are those of the volume in the table
    assert metrics(folder)["last_residual"] == metrics(alone)["last_residual"]


@pytest.mark.parametrize("sizes", [("0",), ("-5",), ("16", "0")])
def test_pixel_sizes_that_are_none_are_refused(project, sizes, capsys):
    words = [w for size in sizes for w in ("--more-pixel-sizes-angstrom", size)]
    reconstruct(project, "--method", "wbp", *SLIGHT, *words, code=2)
    assert "more-pixel-sizes-angstrom" in capsys.readouterr().err.replace("_", "-")


def test_finer_volumes_count_for_memory(project):
    (series,) = read_tilt_series_set(project / "ctf" / "tilt_series.star", project)
    few = Reconstruct().peak_bytes(series, ReconstructParams(pixel_size_angstrom=40.0))
    many = Reconstruct().peak_bytes(
        series, ReconstructParams(pixel_size_angstrom=40.0, more_pixel_sizes_angstrom=(1.0,))
    )
    alone = Reconstruct().peak_bytes(series, ReconstructParams(pixel_size_angstrom=1.0))
    assert few < alone <= many


def test_memory_is_told_of_series_that_are_not_aligned_yet_and_of_given_tomograms(project):
    """A run asks for it before its first stage."""
    (series,) = read_tilt_series_set(project / "ctf" / "tilt_series.star", project)
    known = Reconstruct().peak_bytes(series, ReconstructParams(extent="wide"))
    bare = series.with_tilts([dataclasses.replace(t, pose=None) for t in series.tilts])
    assert Reconstruct().peak_bytes(bare, ReconstructParams(extent="wide")) == pytest.approx(known, rel=0.2)
    assert Reconstruct().peak_bytes(series.with_tilts([]), ReconstructParams()) > 0


@pytest.mark.parametrize("kind", ["int8", "float32", "float16"])
def test_forms_of_volumes(project, kind):
    words = ("--method", "wbp", *SLIGHT, "--volume-type", kind, "--zarr", "--pictures")
    folder = reconstruct(project, *words)
    stored = mrc_mode(folder / "tomograms" / f"{NAME}.mrc")
    assert stored == {"int8": 0, "float32": 2, "float16": 12}[kind]
    exact = volume(reconstruct(project, "--method", "wbp", *SLIGHT, "--volume-type", "float32", "--output", "exact"))
    found = volume(folder)
    if kind == "int8":
        # four deviations to either side of the mean, in 255 steps
        middle, width = exact.mean(), 4 * exact.std()
        np.testing.assert_allclose(
            found, np.clip(exact, middle - width, middle + width), rtol=0, atol=1.1 * width / 255 + 1e-6 * abs(middle)
        )
    else:
        np.testing.assert_allclose(found, exact, rtol=0, atol=(1e-3 if kind == "float16" else 0) * np.abs(exact).max())
    assert not list(folder.rglob("*passing*"))
    zarr = folder / "tomograms" / f"{NAME}.ome.zarr"
    assert (zarr / "zarr.json").is_file() or (zarr / ".zattrs").is_file()
    pictures = sorted(p.name for p in (folder / "pictures").glob("*.png"))
    assert len(pictures) == 6
    assert all(name.startswith(NAME) for name in pictures)
    assert not list(project.rglob(".unfinished"))


def test_weak_images_keep_their_detail_in_int8(project):
    """Densities far below what float16 tells apart: the byte scale must not see it."""
    path = project / "images" / "sum.mrc"
    images = np.array(read_mrc(path)[0]) * 1e-6
    write_mrc(path, images, PIXEL, "float32", is_volume=False)
    words = ("--method", "wbp", *SLIGHT, "--volume-type")
    coarse = volume(reconstruct(project, *words, "int8"))
    exact = volume(reconstruct(project, *words, "float32", "--output", "exact"))
    width = 4 * exact.std()
    cut = np.clip(exact, exact.mean() - width, exact.mean() + width)
    assert np.corrcoef(coarse.ravel(), cut.ravel())[0, 1] > 0.999


def _replace_images(project, change):
    """Change what the images of both halves show."""
    halves = []
    for number, part in enumerate(("even", "odd")):
        path = project / "images" / f"{part}.mrc"
        halves.append(change(np.array(read_mrc(path)[0], dtype=np.float32), number))
        write_mrc(path, halves[-1].astype(np.float32), PIXEL, "float32", is_volume=False)
    write_mrc(
        project / "images" / "sum.mrc", (halves[0] + halves[1]).astype(np.float32), PIXEL, "float32", is_volume=False
    )


def test_a_series_without_beads_is_left_as_it_is(project):
    rng = np.random.default_rng(0)
    _replace_images(project, lambda images, _: 50.0 + rng.normal(size=images.shape))
    words = ("--method", "wbp", "--pixel-size-angstrom", 16)
    folder = reconstruct(project, *words, "--erase-beads")
    assert metrics(folder)["beads"] == 0
    plain = reconstruct(project, *words, "--output", "plain")
    for ending in ("", "_half1", "_half2"):
        np.testing.assert_array_equal(volume(folder, ending), volume(plain, ending))


def test_beads_are_erased(project):
    """Nine dark discs where the blobs were: they go, from the halves as from the sum."""
    words = ("--method", "wbp", "--pixel-size-angstrom", 16)
    folder = reconstruct(project, *words, "--erase-beads")
    plain = reconstruct(project, *words, "--output", "plain")
    assert metrics(folder)["beads"] > 3
    for ending in ("", "_half1", "_half2"):
        assert volume(folder, ending).min() > 0.7 * volume(plain, ending).min()
    whole, first, second = (volume(folder, ending) for ending in ("", "_half1", "_half2"))
    np.testing.assert_allclose(first + second, whole, rtol=0, atol=5e-3 * np.abs(whole).max())


@pytest.mark.parametrize("mode", ["flip", "wiener", "multiply"])
def test_corrections_by_depth(project, mode):
    words = ("--method", "wbp", *SLIGHT, "--ctf-correction", mode)
    deep = volume(reconstruct(project, *words, "--ctf-by-depth"))
    plain = volume(reconstruct(project, *words, "--output", "plain"))
    assert deep.shape == plain.shape
    # at 16 A a depth of 300 A hardly counts
    assert np.corrcoef(deep.ravel(), plain.ravel())[0, 1] > 0.98
    assert likeness(deep, 16.0) > 0.35


def test_what_needs_the_ctf_is_refused_without_it(tmp_path, capsys):
    project = _series(tmp_path / "project", ctf=False)
    for words in (
        ("--method", "ctf"),
        ("--method", "sirt", "--ctf-correction", "flip"),
        ("--method", "wbp", "--ctf-correction", "wiener"),
    ):
        reconstruct(project, *words, *SLIGHT, code=1)
        record = read_record(project / "result", NAME)
        assert not record.is_done
        assert "eucentric ctf" in str(record) + "".join(capsys.readouterr())
    # a purpose takes what there is
    folder = reconstruct(project, "--for", "view", *SLIGHT)
    assert any(" wbp," in label for label in read_mrc(folder / "tomograms" / f"{NAME}.mrc")[1].labels)


def test_correction_by_depth_without_a_correction_is_refused(project, capsys):
    reconstruct(project, "--method", "wbp", "--ctf-by-depth", *SLIGHT, code=1)
    assert "--ctf-correction" in str(read_record(project / "result", NAME)) + "".join(capsys.readouterr())


def test_a_volume_that_is_too_large_is_refused(project, capsys):
    reconstruct(project, "--method", "sirt", "--pixel-size-angstrom", 0.05, code=1)
    words = str(read_record(project / "result", NAME)) + "".join(capsys.readouterr())
    assert "GiB" in words
    assert "larger pixel size" in words


def test_no_tilt_left_is_refused(project, capsys):
    shallow = TILTS[TILTS != 0.0]
    (series,) = read_tilt_series_set(project / "ctf" / "tilt_series.star", project)
    kept = series.without({list(TILTS).index(0.0): "for the test"})
    assert len(kept.tilts) == len(shallow)
    write_tilt_series_set(project / "ctf" / "tilt_series.star", [kept], project)
    reconstruct(project, "--max-tilt-deg", 5, code=1)
    words = str(read_record(project / "result", NAME)) + "".join(capsys.readouterr())
    assert "5 degrees or less" in words


def test_progress_and_json(project, capsys):
    reconstruct(project, "--method", "tv", "--iterations", 2, *SLIGHT, "--json")
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert json.loads(line)["stages"]["reconstruct"]["processed"] == 1


def test_settings_that_change_nothing_are_named(project):
    chosen = ("--subsets", 5, "--iterations", 2, *SLIGHT)
    folder = reconstruct(project, "--method", "wbp", *chosen, "--bead-diameter-angstrom", 100, "--output", "idle")
    words = " ".join(read_record(folder, NAME).caveats)
    for name in ("subsets", "iterations"):
        assert f"The setting {name} changes nothing with the method wbp." in words
    assert "The setting bead_diameter_angstrom changes nothing unless beads are erased." in words
    folder = reconstruct(project, "--method", "sirt", *chosen, "--output", "used")
    assert read_record(folder, NAME).caveats == ()


def test_every_setting_of_some_methods_only_is_a_setting():
    assert set(METHODS_OF) <= set(ReconstructParams.model_fields)
    known = set(ReconstructParams.model_fields["method"].annotation.__args__) - {"auto"}
    assert all(set(methods) <= known for methods in METHODS_OF.values())


@pytest.mark.parametrize("method", ["sirt", "cgls"])
def test_iterative_methods_fade_what_radiation_destroyed(project, method):
    """The late tilts of the series, at +-60, lose detail; the early ones keep it."""
    volumes = {}
    for words in (["--dose-weighting"], ["--no-dose-weighting"]):
        size = ("--pixel-size-angstrom", PIXEL, "--no-half-volumes", "--output", words[0][2:])
        volumes[words[0]] = volume(reconstruct(project, "--method", method, "--iterations", 3, *words, *size))
    power = {k: np.abs(np.fft.rfftn(v)) ** 2 for k, v in volumes.items()}
    kz, kx = np.fft.fftfreq(VOLUME[0])[:, None, None], np.fft.rfftfreq(VOLUME[2])
    radius = np.sqrt(kz**2 + kx**2) + np.zeros_like(power["--dose-weighting"])
    angle = np.degrees(np.arctan2(np.abs(kz), kx)) + np.zeros_like(radius)
    ratio = {}
    for name, chosen in (("late", (angle > 50) & (angle < 62)), ("early", angle < 12)):
        fine = chosen & (radius > 0.3) & (radius < 0.45)
        ratio[name] = power["--dose-weighting"][fine].sum() / power["--no-dose-weighting"][fine].sum()
    # exp(-N / Nc) of the power at 1/20 A is 0.74 after 12 e/A^2, the last tilts' exposure, and 0.98 after 1
    assert ratio["late"] < 0.85 < 0.93 < ratio["early"]


@pytest.mark.parametrize("voxel", [30.0, 40.0, 55.0])
def test_voxels_much_coarser_than_the_pixels_show_what_fine_ones_show(project, voxel):
    words = ("--method", "wbp", "--no-half-volumes", "--no-dose-weighting")
    fine = volume(reconstruct(project, *words, "--pixel-size-angstrom", PIXEL, "--output", "fine"))
    found = volume(reconstruct(project, *words, "--pixel-size-angstrom", voxel, "--output", "coarse"))
    # what coarse voxels hold, of both
    smooth, found = gaussian_filter(fine, 0.8 * voxel / PIXEL), gaussian_filter(found, 0.8)
    places = [(np.arange(n) - n // 2) * voxel / PIXEL + m // 2 for n, m in zip(found.shape, fine.shape, strict=True)]
    expected = map_coordinates(smooth, np.meshgrid(*places, indexing="ij"), order=1)
    inside = (slice(1, -1), slice(2, -2), slice(2, -2))
    right = np.corrcoef(found[inside].ravel(), expected[inside].ravel())[0, 1]
    assert right > 0.9
    assert np.corrcoef(found[:, :, ::-1][inside].ravel(), expected[inside].ravel())[0, 1] < right - 0.3


def test_voxels_that_leave_hardly_a_volume_are_refused(project, capsys):
    reconstruct(project, "--method", "wbp", "--pixel-size-angstrom", 200, code=2)
    assert "Choose a smaller --pixel-size-angstrom" in capsys.readouterr().err


def test_purposes_suit_the_fourier_inversion():
    chosen = ReconstructParams(purpose="averaging", method="fourier").resolved(has_ctf=True, has_halves=True)
    assert chosen.ctf_correction == "wiener"
