"""What goes wrong around a run of the product's own stages on movies, as its user meets it on the command line."""

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from disturbances import enlarge, hold_when, read_only, small_disk, started, wait_for

from eucentric.cli.main import run as run_command
from eucentric.errors import InputError
from eucentric.io import mrc
from eucentric.io.movies import read_movie
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.star import read_star_text
from eucentric.io.tiff import read_tiff, write_tiff
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import read_record
from eucentric.pipeline.simulate_project import simulate
from eucentric.pipeline.store import ItemStore
from eucentric.simulation import SimulationParams

TINY = SimulationParams(
    seed=4,
    image_size_px=(160, 168),
    pixel_size_angstrom=7.0,
    tilt_min_deg=-30.0,
    tilt_max_deg=30.0,
    tilt_step_deg=10.0,
    dose_per_tilt=10.0,
    frames=6,
    thickness_angstrom=600.0,
    macromolecules_kda=(900.0,),
    particles_per_species=(10,),
    vesicles=0,
    beads=6,
    stage_jitter_angstrom=20.0,
    inelastic_path_angstrom=10000.0,
    b_factor=20.0,
    data_type="uint16",
)
QUICK = {
    "align": {"passes": (1, 1), "axis_search_deg": 0.0, "thickness_angstrom": 1000.0, "match_pixel_angstrom": 24.0},
    "reconstruct": {"pixel_size_angstrom": 14.0, "thickness_angstrom": 900.0},
}
SERIES = ("TS_01", "TS_02", "TS_03")
STAGES = ("motion", "align", "ctf", "reconstruct")
TILTS = 7


@dataclass(frozen=True)
class Place:
    """A data set and the project made of it."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def root(self) -> Path:
        return self.folder / "project"

    def movies(self, name: str) -> list[Path]:
        """In order of acquisition."""
        found = sorted((self.data / "frames").glob(f"{name}_*.tif"))
        assert len(found) == TILTS
        return found

    def copy(self, folder: Path) -> "Place":
        """Another one, in which nothing counts as changed: times of files are copied too."""
        shutil.copytree(self.folder, folder)
        return Place(folder)

    def spoil(self, movie: Path, content: bytes | None) -> None:
        """Replace or remove a movie, and keep the good one."""
        movie.rename(self.folder / movie.name)
        if content is not None:
            movie.write_bytes(content)

    def mend(self) -> None:
        """Bring back all movies that were spoilt."""
        for good in self.folder.glob("*.tif"):
            good.replace(self.data / "frames" / good.name)


def run(*words: object) -> int:
    """Exit code of `eucentric ...`."""
    return run_command([str(word) for word in words])


def run_project(place: Place, *words: str) -> int:
    return run("run", place.root, "--workers", "1", "--device", "cpu", *words)


def started_run(place: Place, environment: dict[str, str], workers: int = 1):
    words = ["run", str(place.root), "--workers", str(workers), "--device", "cpu"]
    return started(["-m", "eucentric", *words], environment)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("imported"))
    data = place.data
    simulate(data, TINY, len(SERIES))
    assert (
        run("import", place.root, "--frames", data / "frames", "--mdoc", data, "--gain", data / "gain.mrc", "--json")
        == 0
    )
    for stage, changes in QUICK.items():
        Plan.load(place.root).save(stage, changes)
    return place


@pytest.fixture
def place(imported, tmp_path):
    return imported.copy(tmp_path / "place")


@pytest.fixture(scope="module")
def summed(imported, tmp_path_factory):
    """As far as motion."""
    place = imported.copy(tmp_path_factory.mktemp("summed") / "place")
    assert run_project(place, "--until", "motion") == 0
    return place


@pytest.fixture(scope="module")
def undisturbed(imported, tmp_path_factory):
    whole = imported.copy(tmp_path_factory.mktemp("undisturbed") / "place")
    assert run_project(whole) == 0
    for stage in STAGES:
        assert all(read_record(whole.root / stage, name).is_done for name in SERIES)
    return whole


@pytest.fixture
def finished(undisturbed, tmp_path):
    return undisturbed.copy(tmp_path / "finished")


def redo(place: Place, stage: str) -> None:
    """Remove the results of a stage and of all after it."""
    for folder in (*STAGES[STAGES.index(stage) :], "report"):
        shutil.rmtree(place.root / folder)


def _same_table(given: Path, expected: Path) -> None:
    tables, others = read_star_text(given), read_star_text(expected)
    assert tables.keys() == others.keys(), given
    for block, columns in others.items():
        assert tables[block].keys() == columns.keys(), given
        for label, column in columns.items():
            for found, value in zip(tables[block][label], column, strict=True):
                try:
                    # float32 images after some thousand sums; angles and shifts in degrees and A.
                    assert float(found) == pytest.approx(float(value), rel=1e-4, abs=1e-3, nan_ok=True), (given, label)
                except (TypeError, ValueError):
                    assert found == value, (given, label)


def _same_image(given: Path, expected: Path) -> None:
    found, value = (np.array(read_mrc(p)[0], dtype=np.float32) for p in (given, expected))
    # Stored as float16: sums that differ in the last digits of float32 may be rounded to neighbouring values.
    np.testing.assert_allclose(found, value, rtol=2**-10, atol=2**-10 * float(value.std()), err_msg=str(given))


def assert_same_results(place: Place, other: Place, stages: tuple[str, ...] = STAGES) -> None:
    """Tables, images and tomograms are those of another project, within rounding; nothing else lies there."""
    for stage in stages:
        folder, expected = place.root / stage, other.root / stage
        names = {p.relative_to(expected) for p in expected.rglob("*") if p.is_file()}
        assert {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()} == names
        for name in names:
            if name.suffix == ".star":
                _same_table(folder / name, expected / name)
            elif name.suffix == ".mrc":
                _same_image(folder / name, expected / name)
        for series in SERIES:
            assert read_record(folder, series).fingerprint == read_record(expected, series).fingerprint


def assert_finished_as(place: Place, other: Place) -> None:
    assert run_project(place) == 0
    assert_same_results(place, other)
    index = (place.root / "report" / "index.html").read_text()
    assert all(name in index for name in SERIES)
    assert not list(place.root.rglob(".unfinished"))


def under_way(place: Place, stage: str) -> list[Path]:
    """Files of items that a stage is in the middle of."""
    return list(place.root.glob(f"{stage}/.unfinished/*/{stage}/*/**/*.mrc"))


def hold_in_the_middle(process, place: Place, stage: str) -> str:
    """Stop the process in the middle of an item of a stage, and say of which."""
    hold_when(lambda: bool(under_way(place, stage)), process)
    return under_way(place, stage)[0].relative_to(place.root / stage / ".unfinished").parts[0]


def truncated(movie: Path) -> bytes:
    """The first half of a movie."""
    content = movie.read_bytes()
    return content[: len(content) // 2]


def with_nan(movie: Path, folder: Path) -> bytes:
    """A movie in float32, one pixel of whose third frame is not a number."""
    frames = read_tiff(movie).astype(np.float32)
    frames[2, 7, 5] = np.nan
    write_tiff(folder / "float.tif", frames)
    content = (folder / "float.tif").read_bytes()
    (folder / "float.tif").unlink()
    return content


def spoil_one(place: Place, how: str) -> tuple[Path, str]:
    """Spoil one movie of TS_02; the movie and what is to be said of it."""
    movie = place.movies("TS_02")[4]
    if how == "truncated":
        place.spoil(movie, truncated(movie))
        return movie, f"{movie.name}` ends after frame"
    if how == "not a number":
        place.spoil(movie, with_nan(movie, place.folder))
        return movie, f"{movie.name}`: Frame 3 holds values that are not numbers"
    place.spoil(movie, None)
    return movie, f"{movie.name}` does not exist"


@pytest.mark.parametrize("how", ["truncated", "not a number", "deleted"])
def test_a_movie_that_cannot_be_used_leaves_its_tilt_out_and_is_named(summed, tmp_path, capsys, how):
    place = summed.copy(tmp_path / "place")
    movie, words = spoil_one(place, how)
    # A movie that is gone is missed where its series is done anew, not before: raw data may be archived.
    assert run_project(place, "--until", "motion") == 0
    assert f"motion: {'0 done, 3' if how == 'deleted' else '1 done, 2'} unchanged" in capsys.readouterr().out
    if how == "deleted":
        assert run_project(place, "--until", "motion", "--only", "TS_02", "--overwrite") == 0
    record = read_record(place.root / "motion", "TS_02")
    angle = float(movie.stem.rpartition("_")[2])
    assert len(record.caveats) == 1
    assert record.caveats[0].startswith(f"{angle:.1f} degrees was left out: ")
    assert words in record.caveats[0]
    assert record.metrics["tilts_left_out"] == 1
    assert not read_record(place.root / "motion", "TS_01").caveats
    capsys.readouterr()
    assert run("status", place.root) == 0
    assert words in capsys.readouterr().out
    (excluded,) = read_star_text(place.root / "motion" / "tilt_series" / "TS_02_excluded.star").values()
    assert any(words in str(value) for column in excluded.values() for value in column)
    # Nothing has changed since; and with the movie in order, that series alone is done again.
    assert run_project(place, "--until", "motion") == 0
    assert "motion: 0 done, 3 unchanged" in capsys.readouterr().out
    place.mend()
    assert run_project(place, "--until", "motion") == 0
    assert "motion: 1 done, 2 unchanged" in capsys.readouterr().out
    assert_same_results(place, summed, ("motion",))


@pytest.mark.parametrize("ending", [".mrc", ".tif"])
def test_a_movie_that_may_not_be_read_is_said_to_be_so(tmp_path, monkeypatch, ending):
    movie, frames = tmp_path / f"movie{ending}", np.ones((2, 4, 6), np.float32)
    if ending == ".mrc":
        write_mrc(movie, frames, 1.0, is_volume=False)
    else:
        write_tiff(movie, frames)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(movie))

    monkeypatch.setattr(mrc, "open_unpacked", refuse)
    monkeypatch.setattr("tifffile.TiffFile", refuse)
    with pytest.raises(InputError, match=r"movie\.(mrc|tif)` cannot be read: [Pp]ermission denied"):
        read_movie(movie)


def test_a_sum_that_cannot_be_written_is_not_blamed_on_the_movie(place, monkeypatch, capsys):
    write = ItemStore.write_image

    def refuse(store, name, array, pixel_size, float16=True):
        if name == "TS_02_004":
            raise InputError(f"`{name}.mrc` cannot be written: permission denied.")
        return write(store, name, array, pixel_size, float16)

    monkeypatch.setattr(ItemStore, "write_image", refuse)
    assert run_project(place, "--until", "motion", "--only", "TS_02") == 1
    assert "FAILED TS_02, motion: `TS_02_004.mrc` cannot be written" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_to_is_refused_before_any_work(place, capsys):
    (place.root / "reconstruct").write_text("a file where a folder should be")
    assert run_project(place) == 2
    told = capsys.readouterr().err
    assert "reconstruct` cannot be written" in told
    assert "Choose a folder that you may write to" in told
    assert not list(place.root.glob("*/records/*"))


def test_a_project_that_is_read_only_is_refused_before_any_work(place, capsys):
    with read_only(place.root):
        assert run_project(place) == 2
        assert "cannot be written: read-only file system" in capsys.readouterr().err
    assert not list(place.root.glob("*/records/*"))


def test_import_refuses_a_gain_that_no_turn_makes_fit(imported, tmp_path, capsys):
    gain = np.array(read_mrc(imported.data / "gain.mrc")[0][0])
    write_mrc(tmp_path / "gain.mrc", gain[:-4], 7.0, is_volume=False)
    frames, project = imported.data / "frames", tmp_path / "project"
    assert run("import", project, "--frames", frames, "--mdoc", imported.data, "--gain", tmp_path / "gain.mrc") == 2
    told = capsys.readouterr()
    assert "No turn or" in told.out + told.err
    assert "the frames of TS_01 are 160 x 168" in told.out + told.err
    assert not (project / "import" / "tilt_series.star").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "deleted"])
def test_a_tilt_without_its_movie_goes_the_whole_road_and_comes_back(finished, undisturbed, how, capsys):
    """From a finished project: the series whose movie changed is done again, and again when it is in order."""
    _, words = spoil_one(finished, how)
    if how == "deleted":
        # Raw data may be archived once they were used: nothing is done again for that.
        assert run_project(finished) == 0
        assert_same_results(finished, undisturbed)
        shutil.rmtree(finished.root / "motion")
    capsys.readouterr()
    assert run_project(finished) == 0
    assert "FAILED" not in capsys.readouterr().out
    tilts = read_star_text(finished.root / "reconstruct" / "tilt_series" / "TS_02.star")
    assert len(next(iter(next(iter(tilts.values())).values()))) == TILTS - 1
    page = (finished.root / "report" / "TS_02.html").read_text()
    assert words.replace("`", "") in page.replace("`", "").replace("<code>", "").replace("</code>", "")
    finished.mend()
    assert_finished_as(finished, undisturbed)


@pytest.mark.slow
def test_one_bad_series_of_three_fails_alone_and_the_report_says_why(place, undisturbed, capsys):
    for movie in place.movies("TS_02")[2:]:
        place.spoil(movie, truncated(movie))
    assert run_project(place) == 1
    told = capsys.readouterr()
    assert "motion: 2 done, 1 failed" in told.out
    assert "reconstruct: 2 done" in told.out
    assert "report: 1 done" in told.out
    message = f"Only 2 of {TILTS} movies of TS_02 could be used. The first that could not: "
    assert f"FAILED TS_02, motion: {message}" in told.out
    assert "ends after frame" in told.out
    record = read_record(place.root / "motion", "TS_02")
    assert record.message.startswith(message)
    index = (place.root / "report" / "index.html").read_text()
    assert message in index
    assert "ends after frame" in index
    assert run("status", place.root) == 1
    assert message in capsys.readouterr().out
    for stage in STAGES:
        (table,) = read_star_text(place.root / stage / "tilt_series.star").values()
        assert table["rlnTomoName"] == ["TS_01", "TS_03"]
    # A failure is tried again, and is told again.
    assert run_project(place) == 1
    assert "reconstruct: 0 done, 2 unchanged" in capsys.readouterr().out
    place.mend()
    assert_finished_as(place, undisturbed)
    assert message not in (place.root / "report" / "index.html").read_text()


def at(stage: str, place: Place, finished: Place) -> Place:
    """A project whose next work is a stage."""
    if stage == "motion":
        return place
    redo(finished, stage)
    return finished


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["motion", "reconstruct"])
def test_a_run_killed_in_the_middle_of_a_stage_is_finished_by_the_next(
    place, finished, environment, undisturbed, stage
):
    chosen = at(stage, place, finished)
    with started_run(chosen, environment) as process:
        name = hold_in_the_middle(process, chosen, stage)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert under_way(chosen, stage)
    assert read_record(chosen.root / stage, name) is None  # nothing half done stands under its name
    assert not list(chosen.root.glob(f"{stage}/images/{name}/*"))
    assert not list(chosen.root.glob(f"{stage}/tomograms/{name}*"))
    assert_finished_as(chosen, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["motion", "reconstruct"])
def test_ctrl_c_in_the_middle_of_a_stage_keeps_what_is_made_and_says_how_to_go_on(
    place, finished, environment, undisturbed, stage
):
    chosen = at(stage, place, finished)
    before = {p: p.stat().st_mtime_ns for p in chosen.root.glob("*/records/*")}
    with started_run(chosen, environment) as process:
        name = hold_in_the_middle(process, chosen, stage)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output
    assert "Stopped. What was finished is kept" in output
    assert "Run the same command again to go on." in output
    assert "Traceback" not in output
    assert read_record(chosen.root / stage, name) is None
    assert not list(chosen.root.rglob(".unfinished"))
    assert all(p.stat().st_mtime_ns == time for p, time in before.items())
    assert_finished_as(chosen, undisturbed)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_stage_costs_its_item_a_retry(finished, environment, undisturbed):
    redo(finished, "align")
    with started_run(finished, environment, workers=2) as process:
        wait_for(lambda: len(list(finished.root.glob("align/.unfinished/*"))) == 2, process)
        workers = [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
        assert len(workers) == 2
        workers[0].send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert "FAILED" not in output
    assert not workers[0].is_running()
    assert_same_results(finished, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "size"), [("motion", "1800k"), ("reconstruct", "4m")])
def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(place, finished, undisturbed, capsys, stage, size):
    chosen = at(stage, place, finished)
    with small_disk(chosen.root / stage, f"size={size}"):
        assert run_project(chosen) == 1
        told = capsys.readouterr().out
        assert f"{stage}: 1 done, 2 failed" in told
        assert f"FAILED TS_02, {stage}: The disk that holds" in told
        assert f"FAILED TS_03, {stage}: The disk that holds" in told
        assert "is full" in told
        assert "Free some space" in told
        assert read_record(chosen.root / "reconstruct", "TS_01").is_done
        index = (chosen.root / "report" / "index.html").read_text()
        assert "Free some space" in index
        assert not list(chosen.root.rglob(".unfinished"))
        enlarge(chosen.root / stage, "50m")
        assert_finished_as(chosen, undisturbed)


def fill(disk: Path, room: int) -> None:
    """Take all space of a disk but some bytes."""
    (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - room))


def test_a_run_on_a_full_disk_is_refused_before_any_work(imported, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "size=10m"):
        place = imported.copy(tmp_path / "disk" / "place")
        fill(tmp_path / "disk", 0)
        assert run_project(place) == 2
        assert "is full (0.0 MB free)" in capsys.readouterr().err
        assert not list(place.root.glob("*/records/*"))
        (tmp_path / "disk" / "filler").unlink()
        assert run_project(place, "--until", "motion", "--only", "TS_01") == 0


@pytest.mark.slow
def test_a_disk_too_full_for_any_record_leaves_a_summary_all_the_same(summed, undisturbed, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "size=30m"):
        place = summed.copy(tmp_path / "disk" / "place")
        fill(tmp_path / "disk", 20_000)
        assert run_project(place) == 1
        told = capsys.readouterr().out
        assert "motion: 0 done, 3 unchanged" in told
        assert "report: 0 done, 1 failed" in told
        assert "FAILED report: The disk that holds" in told
        (tmp_path / "disk" / "filler").unlink()
        assert_finished_as(place, undisturbed)
