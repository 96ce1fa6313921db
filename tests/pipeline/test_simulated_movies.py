"""Movies of cameras that write single electrons, and cameras with a table of their MTF."""

import numpy as np
import pytest

from eucentric.io import EerRendering, movie_header, read_gain, read_movie
from eucentric.io.mdoc import read_mdoc
from eucentric.io.truth import read_truth
from eucentric.pipeline.simulate_project import simulate
from eucentric.pipeline.simulated_movies import read_camera_mtf
from eucentric.simulation import SimulatedSeries, SimulationParams

PARAMS = SimulationParams(
    seed=3,
    image_size_px=(72, 64),
    pixel_size_angstrom=2.0,
    frames=2,
    readouts_per_frame=9,
    tilt_step_deg=60.0,
    movie_format="eer",
    macromolecules_kda=(300.0,),
    particles_per_species=(1,),
    vesicles=0,
    beads=0,
    dead_lines=1,
)


@pytest.mark.parametrize("run_bits", [7, 8])
def test_eer_movies_hold_the_electrons_that_the_camera_counted(tmp_path, run_bits):
    params = PARAMS.replace(eer_run_bits=run_bits)
    (files,) = simulate(tmp_path, params)
    series = SimulatedSeries.build(params)
    assert {path.suffix for path in files.movies} == {".eer"}
    assert [s.movie_name for s in read_mdoc(files.mdoc).sections] == [
        files.movies[t].name for t in np.argsort(read_truth(files.truth).acquisition)
    ]
    assert {s.frame_count for s in read_mdoc(files.mdoc).sections} == {18}
    rendering = EerRendering(frames_per_fraction=9)
    header = movie_header(files.movies[1], eer=rendering)
    assert (header.frame_count, header.sensor_frame_count, header.shape) == (2, 18, (64, 72))
    assert header.pixel_size_angstrom == 2.0
    assert header.dose_per_frame == pytest.approx(1.5)
    frames, _ = read_movie(files.movies[1], eer=rendering)
    events = series.electron_events(1)
    for number in range(2):
        expected = np.zeros((64, 72))
        for electrons in events[9 * number : 9 * (number + 1)]:
            expected[electrons[:, 0] // 4, electrons[:, 1] // 4] += 1
        np.testing.assert_array_equal(frames[number], expected)
    gain = read_gain(files.gain)
    assert files.gain.name == "gain.gain"
    np.testing.assert_array_equal(gain, series.detector.gain)
    good = (gain > 0) & ~series.detector.hot
    expected = series.expected_frames(1).numpy()
    # of 4 electrons in 9 readouts some coincide; uneven pixels lose unevenly
    loss = 9 * (1 - np.exp(-expected / gain.clip(0.1) / 9))
    assert frames[:, good].mean() == pytest.approx(loss[:, good].mean(), rel=0.02)


def test_readouts_must_be_told_for_eer(program, tmp_path):
    code, _, err = program("simulate", tmp_path / "new", "--movie-format", "eer")
    assert code == 2
    assert "readouts_per_frame" in err
    assert not (tmp_path / "new").exists()


def test_a_table_of_the_camera_reaches_the_images(program, tmp_path):
    table = tmp_path / "mtf.star"
    rows = "\n".join(f"{f:.3f} {1 - 1.6 * f:.4f}" for f in np.linspace(0, 0.5, 11))
    table.write_text(f"data_\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}\n")
    words = [
        *("--seed", "3", "--image-size-px", "72", "64", "--frames", "1", "--tilt-step-deg", "60", "--vesicles", "0"),
        *("--macromolecules-kda", "300", "--particles-per-species", "1", "--beads", "0"),
    ]
    code, _, err = program("simulate", tmp_path / "data", *words, "--mtf", table)
    assert code == 0, err
    params = PARAMS.replace(frames=1, movie_format="tiff", readouts_per_frame=0, dead_lines=0, pixel_size_angstrom=5.0)
    with_table = SimulatedSeries.build(params, mtf=read_camera_mtf(table))
    name = read_truth(tmp_path / "data" / "TS_01_truth.json").movie_names[1]
    frames, _ = read_movie(tmp_path / "data" / "frames" / name)
    np.testing.assert_array_equal(frames, with_table.movie(1))
    assert (frames != SimulatedSeries.build(params).movie(1)).any()
    code, _, err = program("simulate", tmp_path / "other", *words, "--mtf", tmp_path / "none.star")
    assert code == 2
    assert "none.star" in err
    assert not (tmp_path / "other").exists()
