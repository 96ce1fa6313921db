"""`eucentric sharpen` and `eucentric local-resolution`, what `average` makes of its map, and the page of an average."""

import json
import re

import numpy as np
import pytest
import torch

from eucentric.averaging.correlate_maps import correlate_halves
from eucentric.averaging.results import AverageResult
from eucentric.averaging.soft_mask import ball_mask
from eucentric.cli.main import run
from eucentric.figures.averaging import surface_level, surface_views
from eucentric.figures.shaded_surface import shaded_surface
from eucentric.fourier import frequency_grid
from eucentric.geometry import Rotation
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.models import ParticleSet
from eucentric.pipeline.average_files import write_fsc
from eucentric.pipeline.map_measures import measure_average
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.store import StageStore
from eucentric.report.params import ReportParams
from eucentric.simulation import asymmetric_phantom

N, VOXEL = 40, 2.0
SHAPE = (N, N, N)


def _maps(noise=0.02):
    """A molecule with a white spectrum inside a ball, falling by a B factor of 100, and noise."""
    generator = torch.Generator().manual_seed(4)
    mask = ball_mask(N, VOXEL, 44.0, 10.0)
    source = torch.randn(SHAPE, generator=generator) * mask
    fall = torch.exp(-25.0 * frequency_grid(SHAPE, VOXEL) ** 2)
    signal = torch.fft.irfftn(torch.fft.rfftn(source) * fall, s=SHAPE)
    return [signal + noise * torch.randn(SHAPE, generator=generator) for _ in range(2)], mask


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An average as the command leaves it, of a project without tilt series."""
    place = tmp_path_factory.mktemp("project") / "average" / "ball"
    place.mkdir(parents=True)
    (half1, half2), mask = _maps()
    correlation = correlate_halves(half1, half2, VOXEL, mask)
    turns = Rotation.random(30, np.random.default_rng(1)).matrices
    halves = np.arange(30) % 3
    particles = ParticleSet.build("T", np.zeros((30, 3)), rotations=turns)
    particles = particles.with_column("rlnRandomSubset", halves.astype(np.float64))
    particles = particles.with_column("eucTiltsUsed", np.full(30, 9.0)).with_scores(np.linspace(5.0, 9.0, 30))
    result = AverageResult(
        volume=0.5 * (half1 + half2), half1=half1, half2=half2, mask=mask, correlation=correlation, voxel_size_angstrom=VOXEL,
        halves=halves, tilts_used=np.full(30, 9), weights=torch.ones((N, N, N // 2 + 1)),
    )  # fmt: skip
    for name, volume in (("map", result.volume), ("half1", half1), ("half2", half2), ("mask", mask)):
        write_mrc(place / f"{name}.mrc", volume.numpy(), VOXEL)
    write_fsc(place / "fsc.star", correlation)
    write_relion_particles(place / "particles.star", particles)
    about = {"resolution_angstrom": correlation.resolution_angstrom, "average": {"symmetry": "C1"}}
    about |= measure_average(place, result, "C1", particles)
    (place / "average.json").write_text(json.dumps(about))
    rounds = [
        {"number": i, "pixel_size_angstrom": 4.0, "resolution_angstrom": 20.0 - i, "low_pass_angstrom": 30.0,
         "change_deg": 3.0 / i if i else None, "change_angstrom": 2.0 / i if i else None, "score": 8.0 if i else None}
        for i in range(3)
    ]  # fmt: skip
    (place / "iterations.json").write_text(json.dumps({"rounds": rounds, "caveats": ["A thing to know."]}))
    return place


def test_an_average_comes_with_its_sharpened_map_and_measures(folder):
    about = json.loads((folder / "average.json").read_text())
    assert about["sharpened"]["fitted"]
    assert about["sharpened"]["b_factor"] == pytest.approx(100.0, rel=0.25)
    assert about["sampling"] == {"efficiency": pytest.approx(1.0), "unmeasured": 0.0}
    assert 1.0 <= about["directions"]["anisotropy"] < 1.6
    low, high = about["local_resolution"]["p5_angstrom"], about["local_resolution"]["p95_angstrom"]
    assert low <= about["resolution_angstrom"] * 1.2
    assert low <= about["local_resolution"]["median_angstrom"] <= high
    sharpened, header = read_mrc(folder / "map_sharpened.mrc")
    assert header.voxel_size_angstrom[0] == pytest.approx(VOXEL)
    spectra = [np.abs(np.fft.rfftn(v)) for v in (sharpened, read_mrc(folder / "map.mrc")[0])]
    frequency = frequency_grid(SHAPE, VOXEL).numpy()
    rise = [np.median(s[(frequency > 0.11) & (frequency < 0.14)] / np.median(s[frequency < 0.06])) for s in spectra]
    assert rise[0] > 1.15 * rise[1]
    views = np.load(folder / "curves.npz")["views"]
    assert views.shape == (20, 3)


def test_sharpening_again_changes_the_record_and_the_map(folder, capsys):
    before = read_mrc(folder / "map_sharpened.mrc")[0].copy()
    assert run(["sharpen", str(folder), "--device", "cpu"]) == 2
    assert "exists already" in capsys.readouterr().err
    command = ["sharpen", str(folder), "--b-factor", "50", "--overwrite", "--device", "cpu", "--json"]
    assert run(command) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["b_factor"], told["fitted"]) == (50.0, False)
    assert json.loads((folder / "average.json").read_text())["sharpened"]["b_factor"] == 50.0
    assert "views" in np.load(folder / "curves.npz")
    assert np.abs(read_mrc(folder / "map_sharpened.mrc")[0] - before).max() > 0
    assert run(["sharpen", str(folder), "--overwrite", "--device", "cpu"]) == 0
    np.testing.assert_allclose(read_mrc(folder / "map_sharpened.mrc")[0], before, atol=1e-5 * np.abs(before).max())


def test_half_maps_of_other_programs_are_taken(folder, tmp_path, capsys):
    halves = [str(folder / "half1.mrc"), "--half2", str(folder / "half2.mrc"), "--device", "cpu"]
    out = tmp_path / "sharp.mrc"
    mtf = tmp_path / "mtf.star"
    mtf.write_text("data_mtf\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n0.0 1.0\n0.25 0.8\n0.5 0.5\n")
    assert run(["sharpen", *halves, "--output", str(out), "--mtf", str(mtf), "--b-factor", "0"]) == 0
    plain = tmp_path / "plain.mrc"
    assert run(["sharpen", *halves, "--output", str(plain), "--b-factor", "0"]) == 0
    spectra = [np.abs(np.fft.rfftn(read_mrc(path)[0])) for path in (out, plain)]
    ring = np.abs(frequency_grid(SHAPE, VOXEL).numpy() - 0.1) < 0.002
    # 0.1 1/A in voxels of 2 A is 0.2 1/pixel, where the table says 0.84
    assert np.median(spectra[0][ring] / spectra[1][ring]) == pytest.approx(1 / 0.84, rel=0.02)
    local = tmp_path / "local.mrc"
    assert run(["local-resolution", *halves, "--output", str(local), "--symmetry", "C1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    values = read_mrc(local)[0]
    assert values.min() > 3.9
    assert told["filtered"] == str(tmp_path / "local_filtered.mrc")
    assert read_mrc(tmp_path / "local_filtered.mrc")[0].shape == SHAPE


def _changed(folder, tmp_path, **volumes):
    paths = {}
    for name in ("half1", "half2", "mask"):
        data, voxel = volumes.get(name, (read_mrc(folder / f"{name}.mrc")[0], VOXEL))
        write_mrc(tmp_path / f"{name}.mrc", np.asarray(data, dtype=np.float32), voxel)
        paths[name] = str(tmp_path / f"{name}.mrc")
    return [paths["half1"], "--half2", paths["half2"], "--mask", paths["mask"], "--output", str(tmp_path / "o.mrc")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"half2": (np.ones((20, 20, 20)), VOXEL)}, "cubes of the same size"),
        ({"half2": (np.ones(SHAPE), 3.0)}, "cubes of the same size"),
        ({"half2": "half1"}, "are the same map"),
        ({"mask": (np.full(SHAPE, 3.0), VOXEL)}, "outside 0 to 1"),
        ({"mask": (np.ones((20, 20, 20)), VOXEL)}, "Give one of the same size"),
        ({"half2": (np.random.default_rng(0).normal(size=SHAPE), VOXEL)}, "do not agree on anything"),
    ],
)
def test_half_maps_that_do_not_belong_together_are_refused(folder, tmp_path, capsys, changes, words):
    volumes = {k: (read_mrc(folder / "half1.mrc")[0], VOXEL) if v == "half1" else v for k, v in changes.items()}
    assert run(["sharpen", *_changed(folder, tmp_path, **volumes), "--device", "cpu"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "o.mrc").exists()


def test_half_maps_with_values_that_are_no_numbers_are_refused(folder, tmp_path, capsys):
    command = _changed(folder, tmp_path)
    with (tmp_path / "half1.mrc").open("r+b") as file:
        file.seek(1024 + 4 * 1000)
        file.write(np.array([np.nan], dtype=np.float32).tobytes())
    assert run(["sharpen", *command, "--device", "cpu"]) == 2
    assert "no numbers" in capsys.readouterr().err


def test_missing_halves_and_outputs_are_told_of(folder, tmp_path, capsys):
    (tmp_path / "several" / "class_1").mkdir(parents=True)
    (tmp_path / "several" / "class_1" / "half1.mrc").write_bytes(b"")
    for command, words in (
        (["sharpen", str(folder / "half1.mrc")], "--half2"),
        (["sharpen", str(tmp_path)], "no half1.mrc and half2.mrc"),
        (["sharpen", str(tmp_path / "several")], "such as `"),
        (["sharpen", str(folder), "--half2", str(folder / "half2.mrc")], "Leave it out"),
        (["sharpen", str(folder / "half1.mrc"), "--half2", str(folder / "half2.mrc")], "--output"),
        (["sharpen", str(folder), "--overwrite", "--output", str(folder / "half1.mrc")], "is a file that is read"),
        (["sharpen", str(folder), "--fit-from-angstrom", "-3"], "--fit-from-angstrom"),
        (["local-resolution", str(folder), "--overwrite", "--coarsest-angstrom", "300"], "coarsest detail"),
    ):
        assert run([*command, "--device", "cpu"] if "--fit-from-angstrom" not in command else command) == 2
        assert words in capsys.readouterr().err


def test_the_report_has_a_page_for_each_average(folder):
    root = folder.parents[1]
    store = StageStore(root, "report", "__all__")
    before = WriteReport.also_reads(root)
    outcome = WriteReport().run([], ReportParams(), store, None, torch.device("cpu"))
    assert outcome.metrics["averages"] == 1.0
    index = (root / "report" / "index.html").read_text()
    assert 'href="average-ball.html"' in index
    page = (root / "report" / "average-ball.html").read_text()
    titles = re.findall(r"<h2>([^<]*)</h2>", page)
    assert titles == ["Map", "Resolution", "Directions", "Sharpening", "Iterations", "Particles"]
    assert page.count("data:image/webp;base64,") == 7
    assert page.count("Good: ") == 6
    assert "A thing to know." in page
    # 30 particles of which every third is in no half
    assert "<td>T</td><td>30</td><td>20</td><td>10</td>" in page
    about = json.loads((folder / "average.json").read_text())
    (folder / "average.json").write_text(json.dumps(about | {"more": 1}))
    assert WriteReport.also_reads(root) != before


def test_a_page_is_made_of_what_can_be_read(folder, tmp_path):
    place = tmp_path / "average" / "poor"
    place.mkdir(parents=True)
    (place / "average.json").write_text("{}")
    (place / "map.mrc").write_bytes(b"short")
    (place / "curves.npz").write_bytes(b"short")
    store = StageStore(tmp_path, "report", "__all__")
    assert WriteReport().run([], ReportParams(), store, None, torch.device("cpu")).metrics["averages"] == 1.0
    assert "the halves do not agree" in (tmp_path / "report" / "average-poor.html").read_text()


def test_surfaces_are_seen_from_the_side_with_the_right_hand():
    volume = asymmetric_phantom(40.0).volume(SHAPE, VOXEL).numpy().astype(np.float64)
    figure = surface_views(volume, surface_level(volume))
    assert len(figure.axes) == 3
    # a block beyond +x of the middle, and higher than it along z: seen from -y it is at the upper right
    block = np.zeros((20, 20, 20))
    block[12:17, 8:12, 13:17] = 1.0
    shade, places = shaded_surface(block[:, ::-1].transpose(1, 0, 2), 0.5)
    rows, columns = np.nonzero(np.isfinite(shade))
    assert (rows.min(), rows.max()) == (12, 16)
    assert (columns.min(), columns.max()) == (13, 16)
    # the face towards the eye, from -y, half a voxel before its first voxels
    assert places[0][13, 15] == pytest.approx(19 - 8 + 0.5)
