"""Following a microscope's folder, with a clock of the test's own and small stages that note what they process."""

import dataclasses
import datetime as dt
import json
import os

import numpy as np
import pytest

from eucentric.errors import InputError, ProcessingError
from eucentric.io.mdoc import Mdoc, MdocSection, write_mdoc
from eucentric.io.movies import write_tiff_movie
from eucentric.io.tilt_series import read_tilt_series_set
from eucentric.models.settings import Frozen
from eucentric.pipeline.live import run_live
from eucentric.pipeline.live_advice import SeriesFigures, advise_on_series, advise_on_session
from eucentric.pipeline.live_pace import behind_advice, pace_lines
from eucentric.pipeline.live_page import LivePage, LiveRow, render_live
from eucentric.pipeline.live_params import LiveParams
from eucentric.pipeline.live_records import LiveRecord
from eucentric.pipeline.live_session import RunChoices
from eucentric.pipeline.lock import ProjectLock
from eucentric.pipeline.records import read_records
from eucentric.pipeline.stage import CollectiveOutcome, CollectiveStage, ItemStage, Outcome

SHAPE = (16, 24)
ANGLES = (0.0, 3.0, -3.0, 6.0, -6.0)
START = 1_800_000_000.0
QUICK = {"pause_factor": 0.0, "series_end_seconds": 60.0}


class NoParams(Frozen):
    """Nothing to choose."""


class Note(ItemStage):
    """Write down which series is processed, and with how many tilts."""

    name, params, version, after = "note", NoParams, 1, "import"

    def run(self, series, params, store, device):
        with (store.root / "noted.txt").open("a") as log:
            log.write(f"{series.name} {len(series.tilts)}\n")
        if (store.root / f"stop {series.name}").exists():
            raise KeyboardInterrupt
        if (store.root / f"fail {series.name}").exists():
            raise ProcessingError("It cannot be processed today.")
        return Outcome(series=series, metrics={})


class Pages(CollectiveStage):
    """Stands for the report."""

    name, params, version, after = "pages", NoParams, 1, "note"
    runs_without_items = True

    def run(self, items, params, store, executor, device):
        store.output("names.json").write_text(json.dumps([s.name for s in items]))
        return CollectiveOutcome()


TOYS = (Note, Pages)


class Microscope:
    """A folder that fills while a session sleeps."""

    def __init__(self, folder):
        self.folder, self.project = folder / "microscope", folder / "project"
        self.folder.mkdir()
        self.now = START
        self.events = []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()

    def at(self, minutes, action, *arguments):
        self.events.append((START + 60.0 * minutes, lambda: action(*arguments)))
        self.events.sort(key=lambda event: event[0])

    def _dated(self, path):
        os.utime(path, (self.now, self.now))

    def movie(self, name, index, share=1.0):
        path = self.folder / "frames" / f"{name}_{index:03d}_{ANGLES[index]:.1f}.tif"
        path.parent.mkdir(exist_ok=True)
        write_tiff_movie(path, np.ones((3, *SHAPE), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[: round(path.stat().st_size * share)])
        self._dated(path)

    def mdoc(self, name, count=5, named=True):
        path = self.folder / f"{name}.mdoc"
        sections = [
            MdocSection(
                label=str(i),
                tilt_angle_deg=angle,
                exposure_dose=3.0,
                pixel_spacing_angstrom=2.0,
                sub_frame_path=f"D:\\frames\\{name}_{i:03d}_{angle:.1f}.tif" if named else None,
                frame_count=3,
                date_time=dt.datetime(2027, 1, 15, 8, i, 0),
            )
            for i, angle in enumerate(ANGLES[:count])
        ]
        title = ("Tilt axis angle = 85.0, binning = 1",)
        write_mdoc(path, Mdoc(sections=tuple(sections), titles=title, voltage_kv=300.0, image_size=SHAPE[::-1]))
        self._dated(path)

    def whole(self, name):
        for index in range(len(ANGLES)):
            self.movie(name, index)
        self.mdoc(name)

    def follow(self, settings=None, idle=40.0, **options):
        choices = RunChoices(device="cpu", workers=1, stages=TOYS)
        given = {**QUICK, **(settings or {})}
        ends = {} if options.get("once") else {"until_idle_minutes": idle}
        timing = {"clock": self.clock, "sleep": self.sleep, "choices": choices}
        return run_live(self.folder, self.project, given, **ends, **timing, **options)

    @property
    def noted(self):
        path = self.project / "noted.txt"
        return path.read_text().splitlines() if path.is_file() else []

    @property
    def page(self):
        return (self.project / "live.html").read_text()


@pytest.fixture
def microscope(tmp_path):
    return Microscope(tmp_path)


def outcomes(summary):
    return {name: record.outcome for name, record in summary.records.items()}


def test_three_series_in_bad_order_are_each_processed_once(microscope):
    m = microscope
    m.at(0.5, m.mdoc, "TS_02")  # before any of its movies
    for i in range(5):
        m.at(1 + 0.5 * i, m.movie, "TS_01", i)
        m.at(1 + 0.5 * i, m.mdoc, "TS_01", i + 1)  # an mdoc that grows with every image
        m.at(2 + 0.7 * i, m.movie, "TS_02", 4 - i)
        m.at(3 + 0.4 * i, m.movie, "TS_03", i, 0.6 if i == 2 else 1.0)
    m.at(1.2, m.mdoc, "TS_03")
    m.at(13, m.movie, "TS_03", 2)  # the truncated one, whole
    summary = m.follow()
    assert summary.exit_code == 0
    assert outcomes(summary) == {"TS_01": "done", "TS_02": "done", "TS_03": "done"}
    assert sorted(m.noted) == ["TS_01 5", "TS_02 5", "TS_03 5"]
    assert all(record.without == () for record in summary.records.values())
    assert summary.records["TS_03"].taken > START + 13 * 60
    assert max(summary.records[name].taken for name in ("TS_01", "TS_02")) < START + 8 * 60
    assert json.loads((m.project / "pages" / "names.json").read_text()) == ["TS_01", "TS_02", "TS_03"]
    series = {s.name: s for s in read_tilt_series_set(m.project / "import/tilt_series.star", m.project)}
    assert [t.acquisition for t in series["TS_03"].tilts] == [4, 2, 0, 1, 3]
    before = {name: record.ended for name, record in read_records(m.project / "note").items()}
    again = m.follow(idle=5.0)
    assert outcomes(again) == outcomes(summary)
    assert len(m.noted) == 3
    assert {name: record.ended for name, record in read_records(m.project / "note").items()} == before


def test_the_page_tells_what_a_series_waits_for(microscope):
    m = microscope
    m.whole("TS_01")
    m.mdoc("TS_02")
    m.movie("TS_02", 0)
    m.movie("TS_02", 1, share=0.6)
    m.movie("odd", 0)
    m.now += 100.0
    summary = m.follow(once=True)
    assert list(summary.waiting) == ["TS_02"]
    assert "2 of 5 movies are there" in summary.waiting["TS_02"]
    assert "TS_02_001_3.0.tif` " in summary.waiting["TS_02"]
    assert summary.problems == ("One movie is in no mdoc so far.",)
    assert "2 of 5 movies are there" in m.page
    assert "<b>1</b> done" in m.page
    assert "<b>1</b> not yet whole" in m.page
    assert summary.exit_code == 0


def test_movies_that_never_come_are_waited_for_and_then_done_without(microscope):
    m = microscope
    m.whole("TS_01")
    (m.folder / "frames" / "TS_01_003_6.0.tif").unlink()
    m.at(35, m.movie, "TS_01", 3)
    summary = m.follow(idle=30.0)
    assert m.noted == ["TS_01 4", "TS_01 5"]
    assert summary.records["TS_01"].without == ()
    assert summary.records["TS_01"].taken > START + 35 * 60


def test_a_movie_with_fewer_frames_than_its_mdoc_tells_is_waited_for(microscope):
    m = microscope
    m.whole("TS_01")
    path = m.folder / "frames" / "TS_01_001_3.0.tif"
    write_tiff_movie(path, np.ones((2, *SHAPE), dtype=np.uint8))
    os.utime(path, (m.now, m.now))
    m.now += 100.0
    assert "has 2 of the 3 frames" in m.follow(once=True).waiting["TS_01"]


def test_a_known_number_of_images_ends_a_series_at_once(microscope):
    m = microscope
    m.whole("TS_01")
    assert "5 of 7 images so far" in m.follow({"images": 7}, once=True).waiting["TS_01"]
    assert outcomes(m.follow({"images": 5}, once=True)) == {"TS_01": "done"}


def test_a_series_that_pauses_for_long_is_waited_for_longer(microscope):
    m = microscope
    m.whole("TS_01")  # with an image a minute
    m.now += 100.0
    words = m.follow({"pause_factor": 3.0}, once=True).waiting["TS_01"]
    assert "after 3 min without another" in words
    m.now += 100.0
    assert outcomes(m.follow({"pause_factor": 3.0}, once=True)) == {"TS_01": "done"}


def test_one_bad_series_stops_no_other(microscope):
    m = microscope
    m.whole("TS_01")
    m.mdoc("TS_02", named=False)
    (m.folder / "TS_03.mdoc").write_bytes(b"\0\1\2 not an mdoc")
    m.mdoc("TS_04")
    summary = m.follow(idle=30.0)
    assert summary.exit_code == 1
    assert outcomes(summary) == {"TS_01": "done", "TS_02": "refused", "TS_04": "refused"}
    assert m.noted == ["TS_01 5"]
    assert (
        "names no movie" in summary.records["TS_02"].message or "none of the movies" in summary.records["TS_02"].message
    )
    assert "none of the movies" in summary.records["TS_04"].message
    assert "not a text file" in summary.waiting["TS_03"]
    m.whole("TS_03")  # copied again
    m.at((m.now - START) / 60 + 1, lambda: [m.movie("TS_04", i) for i in range(5)])
    summary = m.follow(idle=10.0)
    assert outcomes(summary) == {"TS_01": "done", "TS_02": "refused", "TS_03": "done", "TS_04": "done"}
    assert sorted(m.noted) == ["TS_01 5", "TS_03 5", "TS_04 5"]


def test_a_series_that_fails_is_kept_as_failed_until_asked_for(microscope):
    m = microscope
    m.project.mkdir()
    for name in ("TS_01", "TS_02"):
        m.whole(name)
    (m.project / "fail TS_01").touch()
    summary = m.follow(adopt=True)
    assert outcomes(summary) == {"TS_01": "failed", "TS_02": "done"}
    assert summary.exit_code == 1
    assert "cannot be processed today" in summary.records["TS_01"].message
    assert "cannot be processed today" in m.page
    (m.project / "fail TS_01").unlink()
    assert outcomes(m.follow(idle=5.0)) == outcomes(summary)
    assert outcomes(m.follow(idle=5.0, retry_failed=True)) == {"TS_01": "done", "TS_02": "done"}
    assert sorted(m.noted) == ["TS_01 5", "TS_01 5", "TS_02 5"]


def test_a_stopped_session_goes_on(microscope):
    m = microscope
    m.project.mkdir()
    m.whole("TS_01")
    m.now += 5.0
    m.whole("TS_02")
    (m.project / "stop TS_02").touch()
    summary = m.follow(adopt=True)
    assert (summary.stopped, summary.exit_code) == (True, 130)
    assert outcomes(summary) == {"TS_01": "taken", "TS_02": "taken"}
    assert "Stopped." in m.page
    (m.project / "stop TS_02").unlink()
    assert outcomes(m.follow(idle=5.0)) == {"TS_01": "done", "TS_02": "done"}
    assert m.noted == ["TS_01 5", "TS_02 5", "TS_02 5"]


def test_ctrl_c_while_nothing_runs(microscope):
    m = microscope
    m.whole("TS_01")

    def stop():
        raise KeyboardInterrupt

    m.at(10, stop)
    summary = m.follow()
    assert summary.stopped
    assert outcomes(summary) == {"TS_01": "done"}


def test_raw_data_that_are_archived_are_not_missed(microscope):
    m = microscope
    m.whole("TS_01")
    m.follow(idle=5.0)
    for movie in (m.folder / "frames").iterdir():
        movie.unlink()
    assert outcomes(m.follow(idle=30.0)) == {"TS_01": "done"}
    assert len(m.noted) == 1


def test_a_project_in_use_is_waited_for(microscope):
    m = microscope
    m.whole("TS_01")
    m.now += 100.0
    with ProjectLock(m.project, "run"):
        summary = m.follow(once=True, adopt=True)
    assert summary.exit_code == 1
    assert "being written to" in summary.run_problem
    assert outcomes(m.follow(once=True)) == {"TS_01": "done"}


def test_settings_are_those_of_the_last_start(microscope):
    m = microscope
    gain = m.folder / "gain.tif"
    write_tiff_movie(gain, np.ones((1, *SHAPE), dtype=np.uint8))
    m.whole("TS_01")
    m.now += 100.0
    m.follow({"dose_per_tilt": 2.5, "gain": str(gain)}, once=True)
    m.whole("TS_02")
    m.now += 100.0
    m.follow(once=True)
    every = read_tilt_series_set(m.project / "import/tilt_series.star", m.project)
    assert [s.name for s in every] == ["TS_01", "TS_02"]
    assert {t.dose for s in every for t in s.tilts} == {2.5}
    assert "../microscope/gain.tif" in (m.project / "eucentric.toml").read_text()
    with pytest.raises(InputError, match="The gain reference"):
        m.follow({"gain": "no_such.mrc"}, once=True)


def test_wrong_places(microscope, tmp_path):
    m = microscope
    with pytest.raises(InputError, match="not a folder that is there"):
        run_live(tmp_path / "nowhere", m.project, once=True)
    with pytest.raises(InputError, match="folder of its own"):
        run_live(m.folder, m.folder, once=True)
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").touch()
    with pytest.raises(InputError, match="is no project"):
        run_live(m.folder, tmp_path / "letters", once=True)
    m.follow(once=True)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(InputError, match="the project of another session"):
        run_live(other, m.project, once=True)
    with ProjectLock(m.project / "live", "live"), pytest.raises(InputError, match="being written to"):
        m.follow(once=True)
    m.whole("TS_01")
    m.now += 100.0
    m.follow(once=True)
    for file in (m.project / "live").rglob("*.json"):
        file.unlink()
    with pytest.raises(InputError, match="made by `eucentric import`"):
        m.follow(once=True)
    assert outcomes(m.follow(once=True, adopt=True)) == {"TS_01": "done"}
    assert len(m.noted) == 1  # known by the records of the stages
    (m.project / "live" / "session.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        m.follow(once=True)


def test_a_folder_that_is_away_for_a_while(microscope, tmp_path):
    m = microscope
    m.at(1, m.folder.rename, tmp_path / "away")
    m.at(5, (tmp_path / "away").rename, m.folder)
    m.at(6, m.whole, "TS_01")
    told = []
    m.at(3, lambda: told.append("cannot be listed" in m.page))
    assert outcomes(m.follow()) == {"TS_01": "done"}
    assert told == [True]


GOOD = SeriesFigures(
    series="TS_01",
    images=41,
    dose=120.0,
    motion_angstrom=9.0,
    blur_angstrom=0.9,
    defocus_angstrom=35000.0,
    target_defocus_angstrom=33000.0,
    shift_percent=4.0,
    thickness_angstrom=1500.0,
)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"motion_angstrom": 55.0}, "drift", "drifts by 55 A"),
        ({"blur_angstrom": 2.4}, "drift", "2.4 A (rms) within a frame"),
        ({"defocus_angstrom": 41000.0}, "focus", "4.1 um where 3.3 um was asked"),
        ({"tilts_without_rings": 30}, "focus", "30 of 41 images show no rings"),
        ({"shift_percent": 22.0}, "tracking", "22% of the field"),
        ({"tilts_left_out": 12}, "tracking", "12 of 41 images were of no use"),
        ({"thickness_angstrom": 4100.0}, "thickness", "410 nm thick"),
        ({"dose": 190.0}, "dose", "190 e/A2"),
    ],
)
def test_advice_on_a_series(change, kind, words):
    params = LiveParams()
    assert advise_on_series(GOOD, params) == []
    (told,) = advise_on_series(dataclasses.replace(GOOD, **change), params)
    assert (told.kind, told.series) == (kind, "TS_01")
    assert words in told.text


def test_advice_on_a_session_follows_the_median():
    params = LiveParams()
    odd = dataclasses.replace(GOOD, defocus_angstrom=25000.0, shift_percent=30.0, thickness_angstrom=5000.0)
    assert advise_on_session([GOOD, GOOD, odd], params) == []
    assert advise_on_session([odd, odd], params) == []
    told = advise_on_session([odd, GOOD, odd], params)
    assert {a.kind for a in told} == {"focus", "tracking", "thickness"}
    assert all(a.series is None and a.text.startswith("The last 3 series: ") for a in told)
    assert "0.8 um nearer focus than asked" in next(a.text for a in told if a.kind == "focus")


def record(name, recorded, finished, seconds):
    return LiveRecord(series=name, outcome="done", files={}, recorded=recorded, finished=finished, seconds=seconds)


def test_pace_and_falling_behind():
    every = [record(f"TS_{i}", 1200.0 * i, 1200.0 * i + 1800.0, 1500.0) for i in range(4)]
    (line,) = pace_lines(every, 5)
    assert "takes 25 min of processing" in line
    assert "done 30 min after its last image" in line
    assert "one every 20 min (3.0 an hour)" in line
    assert pace_lines([], 5) == []
    told = behind_advice(every, 3, 5)
    assert "3 series wait: processing one takes 25 min, the microscope makes one every 20 min" in told.text
    assert behind_advice(every, 1, 5) is None
    assert behind_advice([dataclasses.replace(r, seconds=600.0) for r in every], 3, 5) is None


def test_the_page_escapes_what_files_say():
    row = LiveRow(name="<script>alert(1)</script>", state="done", message="<img src=x>", figures=GOOD)
    page = LivePage(
        watched="/data/<b>",
        written=START,
        refresh_seconds=20,
        doing="Waits.",
        pace=(),
        advice=(),
        problems=("<i>",),
        rows=(row,),
        has_report=False,
    )
    text = render_live(page)
    assert "<script" not in text
    assert "<img" not in text
    assert "<i>" not in text
    assert '<meta http-equiv="refresh" content="20">' in text
    assert "3.50 (3.3)" in text


def test_the_command(program, microscope, tmp_path):
    code, _, errors = program("live", tmp_path / "nowhere", "--project", tmp_path / "p", "--once")
    assert code == 2
    assert "not a folder that is there" in errors
    assert not (tmp_path / "p").exists()
    code, _, errors = program("live", microscope.folder, "--project", tmp_path / "p", "--series-per-run", "0")
    assert code == 2
    assert "--series-per-run" in errors
    options = ("--once", "--settle-seconds", "0", "--json")
    code, out, _ = program("live", microscope.folder, "--project", tmp_path / "p", *options)
    assert code == 0
    assert json.loads(out.splitlines()[-1])["series"] == {}
    assert "No tilt series yet" in (tmp_path / "p" / "live.html").read_text()


@pytest.mark.slow
def test_real_stages_on_series_that_come_one_after_the_other(program, tmp_path):
    from eucentric.pipeline.simulate_project import simulate
    from eucentric.simulation import SimulationParams

    tiny = SimulationParams(
        image_size_px=(192, 208),
        pixel_size_angstrom=8.0,
        tilt_step_deg=15.0,
        tilt_min_deg=-45.0,
        tilt_max_deg=45.0,
        dose_per_tilt=12.0,
        particles_per_species=(4, 6),
        frames=3,
    )
    data, watched, project = tmp_path / "data", tmp_path / "watched", tmp_path / "project"
    simulate(data, tiny, 3)
    (watched / "frames").mkdir(parents=True)
    ends = ("--settle-seconds", "0.1", "--series-end-seconds", "0", "--pause-factor", "0")
    options = ("--project", project, "--once", *ends)

    def copied(source, share=1.0):
        target = watched / source.relative_to(data)
        target.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])

    for name in ("TS_03", "TS_01"):
        for movie in sorted((data / "frames").glob(f"{name}_*")):
            copied(movie)
    truncated = next(iter(sorted((data / "frames").glob("TS_01_*"))))
    copied(truncated, 0.5)
    copied(data / "TS_01.mdoc")
    copied(data / "TS_03.mdoc")
    code, out, errors = program("live", watched, *options, "--gain", data / "gain.mrc", "--workers", "1", "--json")
    assert code == 0, out + errors
    assert "waiting: TS_01" in out
    assert list(json.loads(out.splitlines()[-1])["series"]) == ["TS_03"]
    first = {s: read_records(project / s) for s in ("motion", "align", "ctf", "reconstruct")}
    copied(data / "TS_02.mdoc")
    for movie in sorted((data / "frames").glob("TS_02_*")):
        copied(movie)
    copied(truncated)
    code, out, errors = program("live", watched, *options, "--workers", "1", "--json")
    assert code == 0, out + errors
    found = json.loads(out.splitlines()[-1])["series"]
    assert {name: one["outcome"] for name, one in found.items()} == {"TS_01": "done", "TS_02": "done", "TS_03": "done"}
    for stage, before in first.items():
        after = read_records(project / stage)
        assert set(after) == {"TS_01", "TS_02", "TS_03"}
        assert all(after[name].ended == record.ended for name, record in before.items())
    page = (project / "live.html").read_text()
    assert "<b>3</b> done" in page
    assert 'href="report/index.html"' in page
    assert len(list((project / "reconstruct" / "tomograms").glob("TS_0?.mrc"))) == 3
