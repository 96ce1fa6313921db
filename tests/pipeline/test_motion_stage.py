"""The command `motion` on small movies: gain in any orientation, references, EER, choices of sums, frames that are no use."""

import shutil

import numpy as np
import pytest
from eer_writer import encode, metadata_xml, write_eer

from eucentric.cli import main
from eucentric.io.mdoc import Mdoc, MdocSection, write_mdoc
from eucentric.io.movies import read_movie, write_tiff_movie
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.tilt_series import read_tilt_series
from eucentric.pipeline.records import read_record
from eucentric.pipeline.simulate_project import simulate
from eucentric.simulation import SimulationParams

NAME = "TS_01"
SPECIMEN = SimulationParams(
    seed=6,
    image_size_px=(128, 144),
    pixel_size_angstrom=7.0,
    tilt_min_deg=-10.0,
    tilt_max_deg=10.0,
    tilt_step_deg=10.0,
    dose_per_tilt=10.0,
    frames=6,
    thickness_angstrom=600.0,
    macromolecules_kda=(900.0,),
    particles_per_species=(10,),
    vesicles=0,
    beads=6,
    stage_jitter_angstrom=0.0,
    data_type="uint16",
)
HEIGHT, WIDTH = SPECIMEN.image_size_px[::-1]


def run(*words, code=0):
    assert main.run([str(word) for word in words]) == code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulate(folder, SPECIMEN, 1)
    return folder


def motion(tmp_path, data, *words, gain=None, code=0, references=()):
    """Import and correct; the project."""
    root = tmp_path / "project"
    if not root.exists():
        given = data / "gain.mrc" if gain is None else gain
        run("import", root, "--frames", data / "frames", "--mdoc", data, "--gain", given, *references)
    run("motion", root, "--workers", "1", "--device", "cpu", *words, code=code)
    return root


def series(root):
    return read_tilt_series(root / "motion" / "tilt_series.star", NAME, root)


def image(root, tilt, kind="image"):
    return np.array(read_mrc(root / getattr(tilt, kind))[0][0], dtype=np.float32)


@pytest.fixture(scope="module")
def usual(data, tmp_path_factory):
    return motion(tmp_path_factory.mktemp("usual"), data)


TURNS = [
    ("90", lambda g: np.rot90(g, 1)),
    ("180, divide", lambda g: np.divide(1.0, g[::-1, ::-1], out=np.zeros_like(g), where=g[::-1, ::-1] > 0)),
    ("transposed", lambda g: g.T),
    ("left-right", lambda g: g[:, ::-1]),
]


@pytest.mark.parametrize(("turn"), [turn for _, turn in TURNS], ids=[name for name, _ in TURNS])
def test_a_gain_is_used_whichever_way_it_lies(usual, data, tmp_path, turn):
    stored = np.array(read_mrc(data / "gain.mrc")[0][0])
    write_mrc(tmp_path / "turned.mrc", np.ascontiguousarray(turn(stored)), 7.0, is_volume=False)
    root = motion(tmp_path, data, gain=tmp_path / "turned.mrc")
    record = read_record(root / "motion", NAME)
    assert any("gain reference" in caveat for caveat in record.caveats)
    assert (root / "motion" / "gain" / f"{NAME}.txt").read_text().count("sigma") > 2
    for right, found in zip(series(usual).tilts, series(root).tilts, strict=True):
        one, other = image(usual, right), image(root, found)
        # the mean of a gain that divides is set anew
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.999


def test_a_gain_of_another_camera_is_refused_with_the_evidence(data, tmp_path, capsys):
    other = np.random.default_rng(3).normal(1.0, 0.06, (HEIGHT, WIDTH)).clip(0.5, 1.5)
    write_mrc(tmp_path / "other.mrc", other.astype(np.float32), 7.0, is_volume=False)
    root = motion(tmp_path, data, gain=tmp_path / "other.mrc", code=1)
    told = capsys.readouterr()
    assert "gain reference cannot be used" in told.err + told.out
    assert "--gain-orientation" in told.err + told.out
    # one who knows better says so
    chosen = ("--gain-orientation", "as-stored", "--gain-operation", "multiply")
    motion(tmp_path, data, *chosen, gain=tmp_path / "other.mrc")
    assert len(series(root).tilts) == 3


def test_dark_counts_and_known_defects_are_taken_out(usual, data, tmp_path):
    """Counts of the camera itself, and a block of pixels that count nonsense."""
    rng = np.random.default_rng(8)
    dark = rng.uniform(0.0, 60.0, (HEIGHT, WIDTH)).astype(np.float32)
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    for path in (folder / "frames").glob("*.tif"):
        frames = read_movie(path)[0].astype(np.float32) + dark
        frames[:, 20:26, 30:37] = rng.uniform(0, 300, (len(frames), 6, 7))
        write_tiff_movie(path, frames.round().clip(0, 65535).astype(np.uint16))
    write_mrc(tmp_path / "dark.mrc", dark, 7.0, is_volume=False)
    (tmp_path / "defects.txt").write_text("30 20 7 6\n")
    references = ("--dark", tmp_path / "dark.mrc", "--defects", tmp_path / "defects.txt")
    root = motion(tmp_path, folder, references=references)
    inside = (slice(10, -10), slice(10, -10))
    for right, found in zip(series(usual).tilts, series(root).tilts, strict=True):
        one, other = image(usual, right)[inside], image(root, found)[inside]
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
        assert other.mean() == pytest.approx(one.mean(), rel=0.01)
    assert read_record(root / "motion", NAME).metrics["defective_pixels_percent"] > 100.0 * 42 / (HEIGHT * WIDTH)


def test_first_frames_can_be_left_out_and_their_dose_is_not_forgotten(usual, data, tmp_path):
    root = motion(tmp_path, data, "--skip-frames", 2)
    for right, found in zip(series(usual).tilts, series(root).tilts, strict=True):
        assert found.frame_count == 4
        assert len(found.motion.shifts_angstrom) == 4
        assert found.dose == pytest.approx(right.dose * 4 / 6)
        assert found.pre_exposure == pytest.approx(right.pre_exposure + right.dose * 2 / 6)
        assert found.quality.mean_counts == pytest.approx(right.quality.mean_counts, rel=0.02)
        assert image(root, found).mean() == pytest.approx(image(usual, right).mean() * 4 / 6, rel=0.02)


def test_sums_can_be_coarser(usual, data, tmp_path):
    root = motion(tmp_path, data, "--binning", 2)
    coarse = series(root)
    assert coarse.image_shape == (HEIGHT // 2, WIDTH // 2)
    assert coarse.pixel_size_angstrom == 14.0
    assert coarse.original_pixel_size_angstrom == 7.0
    for right, found in zip(series(usual).tilts, coarse.tilts, strict=True):
        one, other = image(usual, right), image(root, found)
        assert other.mean() == pytest.approx(one.mean(), rel=0.01)
        # the low frequencies are the same, about the same centre
        spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(one)))
        y, x = HEIGHT // 4, WIDTH // 4
        cut = (
            np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum[y : y + HEIGHT // 2, x : x + WIDTH // 2]))).real / 4
        )
        inside = (slice(8, -8), slice(8, -8))
        assert np.corrcoef(cut[inside].ravel(), other[inside].ravel())[0, 1] > 0.99


def test_other_outputs(usual, data, tmp_path):
    words = ("--power-spectra", "--thumbnails", "--dose-weighted-copy", "--image-type", "float32")
    root = motion(tmp_path, data, *words)
    folder = root / "motion"
    assert len(list((folder / "thumbnails").glob("*.png"))) == 3
    power = np.array(read_mrc(folder / "images" / NAME / f"{NAME}_000_power.mrc")[0][0])
    assert power.min() >= 0.0
    plain, weighted = (
        np.array(read_mrc(folder / "images" / NAME / f"{NAME}_000{ending}.mrc")[0][0])
        for ending in ("", "_dose_weighted")
    )
    assert plain.dtype == np.float32
    assert weighted.mean() == pytest.approx(plain.mean(), rel=0.01)
    fine = [np.abs(np.fft.rfft2(i - i.mean()))[HEIGHT // 2 - 8 : HEIGHT // 2 + 8].mean() for i in (plain, weighted)]
    assert fine[1] != fine[0]


def test_frames_that_are_no_use_are_left_out_and_named(usual, data, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    path = min((folder / "frames").glob("*.tif"))
    frames = read_movie(path)[0].copy()
    frames[3] = 0
    frames[5] = 65535
    write_tiff_movie(path, frames)
    root = motion(tmp_path, folder)
    told = " ".join(read_record(root / "motion", NAME).caveats)
    assert "frame 4 was left out: it holds no counts" in told
    assert "frame 6 was left out: it is saturated" in told
    right = next(t for t in series(usual).tilts if t.acquisition == 0)
    found = next(t for t in series(root).tilts if t.acquisition == 0)
    assert len(found.motion.shifts_angstrom) == 6
    assert np.isnan(found.motion.sigma_angstrom[[3, 5]]).all()
    assert image(root, found).mean() == pytest.approx(image(usual, right).mean() * 4 / 6, rel=0.02)
    # a full frame says nothing of the counts
    assert found.quality.mean_counts == pytest.approx(right.quality.mean_counts, rel=0.02)


def test_what_is_asked_for_goes_before_what_was_found_and_is_said(data, tmp_path):
    stored = np.array(read_mrc(data / "gain.mrc")[0][0])
    write_mrc(tmp_path / "turned.mrc", np.ascontiguousarray(stored[::-1]), 7.0, is_volume=False)
    root = motion(tmp_path, data, "--gain-orientation", "as-stored", gain=tmp_path / "turned.mrc")
    (told,) = read_record(root / "motion", NAME).caveats
    assert told.startswith("As asked for, the gain reference, not rotated, not flipped")
    assert "flipped up-down" in told


def test_a_gain_of_zeros_is_refused_without_advice_that_does_not_help(data, tmp_path, capsys):
    stored = np.array(read_mrc(data / "gain.mrc")[0][0])
    stored[: HEIGHT // 3] = 0.0
    write_mrc(tmp_path / "zeros.mrc", stored, 7.0, is_volume=False)
    motion(tmp_path, data, gain=tmp_path / "zeros.mrc", code=1)
    told = capsys.readouterr().err
    assert "33% of the pixels" in told
    assert "--gain-orientation" not in told


def test_a_dark_reference_lies_as_it_is_stored_or_as_said(data, tmp_path):
    """The gain may lie otherwise."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    dark = np.zeros((HEIGHT, WIDTH), np.float32)
    dark[10:40, 20:60] = 50.0
    for path in (folder / "frames").glob("*.tif"):
        write_tiff_movie(path, (read_movie(path)[0] + dark).astype(np.uint16))
    stored = np.array(read_mrc(data / "gain.mrc")[0][0])
    write_mrc(tmp_path / "gain.mrc", np.ascontiguousarray(stored[::-1]), 7.0, is_volume=False)
    for name, lies, words in (("a", dark, ()), ("b", dark[::-1], ("--dark-orientation", "up-down"))):
        place = tmp_path / name
        place.mkdir()
        write_mrc(place / "dark.mrc", np.ascontiguousarray(lies), 7.0, is_volume=False)
        root = motion(place, folder, *words, gain=tmp_path / "gain.mrc", references=("--dark", place / "dark.mrc"))
        total = image(root, series(root).tilts[0])
        inside, outside = total[15:35, 25:55].mean(), total[-35:-15, 25:55].mean()
        assert abs(inside - outside) < 60.0  # 300 where it is not taken off


def test_anisotropic_magnification_is_undone_once(usual, data, tmp_path):
    """Stretched by 3% along x: what lies at a place of the sum lies further out along x in the other."""
    root = motion(tmp_path, data, "--magnification", 1.03, 1.0, 0.0)
    for right, found in zip(series(usual).tilts, series(root).tilts, strict=True):
        one, other = image(usual, right).astype(np.float64), image(root, found).astype(np.float64)
        x = np.arange(WIDTH) - WIDTH // 2

        def stretched(factor, one=one, x=x):
            places = x * factor + WIDTH // 2
            return np.stack([np.interp(places, np.arange(WIDTH), row) for row in one])

        inside = (slice(10, -10), slice(10, -10))
        score = {
            f: np.corrcoef(stretched(f)[inside].ravel(), other[inside].ravel())[0, 1] for f in (1 / 1.03, 1.0, 1.03)
        }
        assert score[1 / 1.03] == max(score.values())


@pytest.fixture(scope="module")
def eer(tmp_path_factory):
    """Three EER movies of 120 sensor frames: blobs, one of them drifting with all, electrons in quarter pixels."""
    folder = tmp_path_factory.mktemp("eer")
    rng = np.random.default_rng(2)
    size, fine = (64, 72), (256, 288)
    y, x = np.mgrid[: fine[0], : fine[1]] / 4.0
    places = rng.uniform(8, 56, (14, 2))
    sections = []
    for order, angle in enumerate((0.0, 3.0, -3.0)):
        scene = 1.0 - 0.8 * sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8.0) for a, b in places).clip(0, 1)
        streams = []
        for frame in range(120):
            moved = np.roll(scene, round(4 * 0.02 * (frame - 60)), axis=1)
            chosen = np.argwhere(rng.random(fine) < 0.15 / 16 * moved)
            # one electron a pixel and frame
            _, first = np.unique(chosen[:, 0] // 4 * size[1] + chosen[:, 1] // 4, return_index=True)
            streams.append(encode(chosen[first], size))
        name = f"{NAME}_{order:03d}_{angle:.1f}.eer"
        meta = metadata_xml(sensorPixelSize__width=("8e-10", "m"), sensorPixelSize__height=("8e-10", "m"))
        write_eer(folder / name, streams, size, metadata=meta)
        sections.append(
            MdocSection(
                label=str(order), tilt_angle_deg=angle, exposure_dose=0.25, sub_frame_path=name, frame_count=120
            )
        )
    write_mdoc(folder / f"{NAME}.mdoc", Mdoc(sections=tuple(sections), voltage_kv=300.0, pixel_spacing_angstrom=8.0))
    return folder


@pytest.mark.parametrize(
    ("words", "shape", "pixel", "fractions"),
    [
        (("--eer-upsampling", 2), (64, 72), 8.0, 10),
        (("--eer-fractions", 4), (64, 72), 8.0, 4),
        (("--eer-super-resolution", "--eer-frames-per-fraction", 20), (128, 144), 4.0, 6),
        (("--binning", 2, "--eer-dose-per-fraction", 0.05), (32, 36), 16.0, 5),
    ],
)
def test_eer_movies(eer, tmp_path, words, shape, pixel, fractions):
    root = tmp_path / "project"
    run("import", root, "--frames", eer, "--mdoc", eer)
    run("motion", root, "--workers", "1", "--device", "cpu", *words)
    found = series(root)
    assert found.image_shape == shape
    assert found.pixel_size_angstrom == pytest.approx(pixel)
    one = next(t for t in found.tilts if t.acquisition == 0)
    assert one.frame_count == fractions
    total = image(root, one)
    # every electron is counted, whatever the rendering: in pixels of the sensor, or a quarter of them; coarser ones are means
    electrons = read_movie(eer / f"{NAME}_000_0.0.eer")[0].sum(dtype=np.float64) / (64 * 72)
    share = 0.25 if "--eer-super-resolution" in words else 1.0
    assert total.mean() == pytest.approx(share * electrons, rel=0.005)
    # the drift is to the right: x grows
    shifts = one.motion.shifts_angstrom
    assert shifts[-1, 0] - shifts[0, 0] > 4.0
    assert abs(shifts[-1, 1] - shifts[0, 1]) < 6.0
