"""From movies to tomogram and report on the command line, scored against truth."""

import json
import shutil

import numpy as np
import pytest

from eucentric.cli.main import run as run_command
from eucentric.io import read_mrc, read_tilt_series_set, read_truth
from eucentric.pipeline.scoring import score_project
from eucentric.pipeline.simulate_project import simulate
from eucentric.simulation import SimulationParams

SMALL = SimulationParams(
    image_size_px=(224, 240),
    pixel_size_angstrom=7.0,
    tilt_step_deg=10.0,
    tilt_min_deg=-50.0,
    tilt_max_deg=50.0,
    dose_per_tilt=9.0,
    particles_per_species=(8, 12),
    frames=3,
)


def run(*words: str) -> int:
    """Exit code of `eucentric ...`."""
    return run_command(list(words))


def figures(project, truths) -> dict[tuple[str, str], float]:
    return {(row.series, row.metric): row.value for row in score_project(project, truths)}


def import_practice(folder, project, name: str) -> None:
    gain, mdoc = str(folder / "gain.mrc"), str(folder / f"{name}.mdoc")
    assert (
        run(
            "import", str(project), "--frames", str(folder / "frames" / f"{name}_*.tif"), "--mdoc", mdoc, "--gain", gain
        )
        == 0
    )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "alignment", "lost"), [("TS_01", 5.0, 0), ("TS_02", 7.0, 0), ("TS_03", 7.0, 0)])
def test_practice_series_with_defaults_only(shared_data, tmp_path, name, alignment, lost):
    folder, project = shared_data / "practice", tmp_path / "project"
    import_practice(folder, project, name)
    assert run("run", str(project), "--workers", "1") == 0
    score = figures(project, [folder / f"{name}_truth.json"])
    assert score[name, "motion rms"] < 1.5
    assert score[name, "alignment rms"] < alignment
    assert score[name, "good tilts lost"] == lost
    assert score[name, "bad tilts kept"] == 0
    assert score[name, "defocus error, |tilt| <= 30"] < 300.0
    assert score[name, "hand right"] == 1.0
    assert score[name, "particle contrast"] > 1.0
    # a mirrored tomogram has nothing at the true places: the contrast is that of the right hand
    page = (project / "report" / "index.html").read_text()
    assert name in page
    assert list((project / "report").glob(f"{name}*.html"))


@pytest.mark.slow
def test_simulated_series_goes_the_whole_road_and_a_bad_one_does_not_stop_it(tmp_path):
    data, project = tmp_path / "data", tmp_path / "project"
    simulate(data, SMALL, 2)
    for movie in sorted((data / "frames").glob("TS_02_*.tif"))[2:]:
        movie.write_bytes(movie.read_bytes()[:300])
    code = run(
        "import", str(project), "--frames", str(data / "frames"), "--mdoc", str(data), "--gain", str(data / "gain.mrc")
    )
    assert code == 0
    code = run("run", str(project), "--workers", "1")
    series = {s.name: s for s in read_tilt_series_set(project / "reconstruct" / "tilt_series.star", project)}
    assert "TS_01" in series
    assert "TS_02" not in series
    score = figures(project, [data / "TS_01_truth.json"])
    assert score["TS_01", "motion rms"] < 3.0
    assert score["TS_01", "alignment rms"] < 15.0
    tomogram = series["TS_01"].tomogram
    assert tomogram is not None
    assert tomogram.half1 is not None
    whole, half = (np.array(read_mrc(project / p)[0], dtype=np.float32) for p in (tomogram.path, tomogram.half1))
    assert whole.shape == half.shape == tomogram.shape_zyx
    assert np.corrcoef(whole.ravel(), half.ravel())[0, 1] > 0.5
    truth = read_truth(data / "TS_01_truth.json")
    assert len(series["TS_01"].tilts) + len(series["TS_01"].excluded) == len(truth.nominal_tilts_deg)


@pytest.mark.slow
def test_running_again_redoes_nothing_and_removing_results_redoes_the_same(shared_data, tmp_path):
    data, project = tmp_path / "data", tmp_path / "project"
    simulate(data, SMALL, 1)
    run("import", str(project), "--frames", str(data / "frames"), "--mdoc", str(data), "--gain", str(data / "gain.mrc"))
    assert run("run", str(project), "--workers", "1", "--until", "align") == 0
    record = project / "align" / "records" / "TS_01.json"
    first, table = record.read_text(), (project / "align" / "tilt_series" / "TS_01.star").read_text()
    assert run("run", str(project), "--workers", "1", "--until", "align") == 0
    assert record.read_text() == first
    shutil.rmtree(project / "align")
    assert run("run", str(project), "--workers", "1", "--until", "align") == 0
    again = json.loads(record.read_text())
    assert again["fingerprint"] == json.loads(first)["fingerprint"]
    assert (project / "align" / "tilt_series" / "TS_01.star").read_text() == table
