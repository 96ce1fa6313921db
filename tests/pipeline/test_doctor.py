"""The doctor finds faults that were planted, says nothing of healthy files, and its commands are real ones."""

import dataclasses
import datetime as dt
import json
import math
import shlex

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, gaussian_filter

from eucentric.cli.main import make_app
from eucentric.ctf.estimate_ctf import estimate_series_ctf
from eucentric.ctf.gradient_scale import measure_gradient_scale
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import HandTest
from eucentric.geometry.tilt import TiltGeometry
from eucentric.io.mdoc import Mdoc, MdocSection, write_mdoc
from eucentric.io.movies import write_tiff_movie
from eucentric.io.mrc import write_mrc
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.models.optics import Optics
from eucentric.models.tilt_series import TiltPose
from eucentric.optics import ctf_2d
from eucentric.pipeline.doctor import machine
from eucentric.pipeline.doctor.axis import judge_axis
from eucentric.pipeline.doctor.cases import gather
from eucentric.pipeline.doctor.dose import check_dose
from eucentric.pipeline.doctor.examine import examine
from eucentric.pipeline.doctor.findings import Fault, Passed
from eucentric.pipeline.doctor.geometry_from_images import check_geometry
from eucentric.pipeline.doctor.hand import check_hand, check_hands_together, hand_seen
from eucentric.pipeline.doctor.leftovers import check_tables, check_tilts
from eucentric.pipeline.doctor.measure import measure_series
from eucentric.pipeline.doctor.metadata import check_metadata
from eucentric.pipeline.doctor.pixel_size import check_gradients, check_pixel_size
from eucentric.pipeline.doctor.sketches import ring_images
from eucentric.pipeline.lock import LOCK_FILE
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import Record, record_path, row_path, write_record

PIXEL, SIDE, AXIS, DEFOCUS, DOSE, PATHS = 5.0, 448, 70.0, 25_000.0, 3.0, 0.4
ANGLES = tuple(float(a) for a in range(-56, 57, 8))
ORDER = sorted(ANGLES, key=lambda a: (abs(a), -a))
START = dt.datetime(2024, 5, 6, 9, 0, 0)


def tilted_image(tilt, scene, generator):
    """Counts of a thin sheet: its features squeezed across the axis, and rings whose defocus changes with its height."""
    c, s = math.cos(math.radians(AXIS)), math.sin(math.radians(AXIS))
    y, x = np.mgrid[:SIDE, :SIDE] - float(SIDE // 2)
    across = (c * x + s * y) * PIXEL
    # a point u of the sheet is seen at u cos(t): from image to sheet, across the axis alone
    stretch = 1.0 / math.cos(math.radians(tilt)) - 1.0
    matrix = np.eye(2) + stretch * np.outer((s, c), (s, c))
    middle = np.array([SIDE // 2, SIDE // 2], dtype=float)
    offset = np.array(scene.shape) // 2 - matrix @ middle
    features = affine_transform(scene, matrix, offset=offset, output_shape=(SIDE, SIDE), order=1, mode="wrap")
    defocus = DEFOCUS + across * math.tan(math.radians(tilt))  # hand -1, and z = -across tan(t)
    steps = np.linspace(defocus.min(), defocus.max(), 12)
    white = torch.fft.rfft2(torch.from_numpy(generator.normal(0, 1, (SIDE, SIDE)).astype(np.float32)))
    layers = [
        torch.fft.irfft2(white * ctf_2d((SIDE, SIDE), PIXEL, d, d, 0.0, Optics()), s=(SIDE, SIDE)).numpy()
        for d in steps
    ]
    place = np.clip((defocus - steps[0]) / max(steps[1] - steps[0], 1e-6), 0, len(steps) - 1.001)
    low, part = place.astype(int), place - place.astype(int)
    stack = np.array(layers)
    rings = (1 - part) * np.take_along_axis(stack, low[None], 0)[0]
    rings += part * np.take_along_axis(stack, low[None] + 1, 0)[0]
    level = DOSE * PIXEL**2 * math.exp(-PATHS / math.cos(math.radians(tilt)))
    noise = generator.normal(0, 1, (SIDE, SIDE))
    return np.clip(level * (1 - 0.08 * features) + math.sqrt(level) * (0.8 * rings + 0.6 * noise), 0, 255)


def an_mdoc(*, axis=AXIS, sign=1.0, pixel=PIXEL, dose=DOSE, prior=True, rotation=None):
    sections = [
        MdocSection(
            label=str(n),
            tilt_angle_deg=sign * angle + 0.01,
            exposure_dose=dose,
            prior_record_dose=n * DOSE if prior else None,
            pixel_spacing_angstrom=pixel,
            rotation_angle_deg=axis + 90.0 if rotation is None else rotation,
            target_defocus_um=-DEFOCUS * 1e-4,
            sub_frame_path=f"D:\\frames\\TS_01_{n:03d}_{angle:.1f}.tif",
            frame_count=1,
            exposure_time_s=1.0,
            date_time=START + dt.timedelta(seconds=60 * n),
        )
        for n, angle in enumerate(ORDER)
    ]
    title = f"    Tilt axis angle = {axis:.1f}, binning = 1  spot = 8  camera = 0"
    return Mdoc(
        sections=tuple(sections),
        titles=(title,),
        voltage_kv=300.0,
        pixel_spacing_angstrom=pixel,
        image_file="TS_01.mrc",
        image_size=(SIDE, SIDE),
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Movies of one frame and their mdoc."""
    folder = tmp_path_factory.mktemp("recorded")
    generator = np.random.default_rng(7)
    scene = gaussian_filter(generator.normal(0, 1, (2 * SIDE, 2 * SIDE)), 4.0, mode="wrap")
    scene = np.maximum(scene / scene.std(), 1.0) - 1.0
    scene /= scene.std()
    for n, angle in enumerate(ORDER):
        image = tilted_image(angle, scene, generator)
        write_tiff_movie(folder / "frames" / f"TS_01_{n:03d}_{angle:.1f}.tif", np.rint(image).astype(np.uint8)[None])
    write_mdoc(folder / "TS_01.mdoc", an_mdoc())
    return folder


def the_case(folder, mdoc=None):
    path = folder / "TS_01.mdoc"
    if mdoc is not None:
        path = folder / "changed" / "TS_01.mdoc"
        path.parent.mkdir(exist_ok=True)
        write_mdoc(path, mdoc)
    return gather([path, *sorted((folder / "frames").iterdir())]).cases[0]


@pytest.fixture(scope="module")
def healthy(recorded):
    case = the_case(recorded)
    return case, measure_series(case)


def faults(results):
    return [r for r in results if isinstance(r, Fault)]


def commands_of(found):
    return [r.command for f in found for r in f.remedies]


def must_parse(text):
    """Every `eucentric` command of a line is one that the program takes, with these options."""
    app = make_app()
    for part in text.split(" && "):
        words = shlex.split(part)
        if words[0] != "eucentric":
            continue
        function, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
        assert callable(function)
        assert bound is not None


def every_check(case, measured):
    from eucentric.pipeline.doctor.cases import Cases

    yield from check_metadata(case)
    yield from check_geometry(case, measured)
    yield from check_hand(case, measured, None)
    yield from check_pixel_size(case, measured)
    yield from check_dose(case, measured)
    yield from check_tilts(case, measured)
    yield from check_tables(case, Cases(cases=(case,)))
    yield from check_gradients([case], [measured])


def test_healthy_files_have_no_faults(healthy):
    case, measured = healthy
    results = list(every_check(case, measured))
    assert faults(results) == []
    passed = {r.check for r in results if isinstance(r, Passed)}
    wanted = {"tilt-axis", "hand", "pixel-size", "dose", "dose-counts", "tilts", "tilt-sign", "mdoc-axis", "pre-tilt"}
    assert wanted <= passed
    assert measured.axis.axis_deg == pytest.approx(AXIS, abs=2.0)
    assert measured.rings.test.hand == -1
    assert measured.rings.gradient.factor == pytest.approx(1.0, abs=max(0.05, 3 * measured.rings.gradient.sigma))
    assert measured.light.incident / PIXEL**2 == pytest.approx(DOSE, rel=0.03)


def test_angles_of_the_wrong_sign_are_found_with_what_they_lead_to(program, recorded):
    path = recorded / "negated" / "TS_01.mdoc"
    path.parent.mkdir()
    write_mdoc(path, an_mdoc(sign=-1.0))
    code, out, _ = program("doctor", path, recorded / "frames", "--no-machine", "--json")
    assert code == 1
    report = json.loads(out.splitlines()[-1])
    found = {f["check"]: f for f in report["findings"]}
    assert set(found) == {"hand", "tilt-sign"}
    hand = found["hand"]
    assert hand["severity"] == "error"
    assert hand["sigmas"] > 3
    assert "mirror image" in hand["consequence"]
    assert "14 of 14 movies" in hand["compared"]
    # the images cannot tell these apart, and it says so
    assert "look the same to the images" in hand["compared"]
    assert "--tilt-axis -110" in hand["remedies"][0]["command"]
    assert len(hand["remedies"]) == 2
    for remedy in (r for f in report["findings"] for r in f["remedies"]):
        must_parse(remedy["command"])
    assert "ERROR" in out


def with_axis(measured, given, hand):
    """The same measurement, with an axis looked at in the sense next to the given one."""
    test = HandTest(hand=hand, given=-1.0, decided=True, log_likelihood_ratio=100.0 * hand, sigmas=12.0)
    direction = judge_axis(given, measured.axis.axis_deg, 0.5).direction_deg
    return dataclasses.replace(measured, rings=dataclasses.replace(measured.rings, test=test, axis_deg=direction))


def test_an_axis_turned_by_180_is_found_by_the_gradient_alone(recorded, healthy):
    case = the_case(recorded, an_mdoc(axis=AXIS - 180.0))
    measured = with_axis(healthy[1], AXIS - 180.0, hand=1.0)
    assert faults(check_geometry(case, measured)) == []
    (found,) = faults(check_hand(case, measured, None))
    assert (found.check, found.severity, found.confidence) == ("hand", "error", "certain")
    assert "--tilt-axis 70" in found.remedies[0].command


@pytest.mark.parametrize(
    ("given", "hand", "word"),
    [
        (160.0, -1.0, "turned by 90"),
        (-20.0, 1.0, "turned by 90"),
        (-70.0, -1.0, "the other sign"),
        (40.0, -1.0, "does not fit the images."),
    ],
)
def test_a_wrong_axis_is_found_by_how_parts_of_images_move(recorded, healthy, given, hand, word):
    case = the_case(recorded, an_mdoc(axis=given))
    measured = with_axis(healthy[1], given, hand)
    (found,) = faults(check_geometry(case, measured))
    assert word in found.title
    assert found.severity == "error"
    value = float(found.remedies[0].command.split("--tilt-axis ")[1].split(" ")[0])
    assert value == pytest.approx(AXIS, abs=2.0)
    assert faults(check_hand(case, measured, None)) == []
    for text in commands_of([found]):
        must_parse(text)


def test_angles_that_an_axis_makes_up_for_are_no_error(recorded):
    case = the_case(recorded, an_mdoc(sign=-1.0, axis=AXIS - 180.0))
    assert [f.severity for f in faults(check_metadata(case, gradient_fits=True))] == ["note"]
    assert [f.severity for f in faults(check_metadata(case, gradient_fits=False))] == ["error"]
    assert [f.severity for f in faults(check_metadata(case))] == ["error"]


@pytest.mark.parametrize("given", [70.0, 70.0 - 180.0, 68.0, 250.0])
def test_an_axis_and_its_opposite_agree_with_the_same_images(given):
    assert judge_axis(given, 70.5, 0.4).relation == "agrees"
    assert abs((judge_axis(given, 70.5, 0.4).direction_deg - given + 180) % 360 - 180) < 3


def test_a_hand_that_was_set_against_the_images_is_found(healthy):
    case, measured = healthy
    (found,) = faults(check_hand(case, measured, 1.0))
    assert "--hand auto" in found.remedies[0].command
    assert found.severity == "error"
    assert faults(check_hand(case, measured, -1.0)) == []
    undecided = dataclasses.replace(
        measured,
        rings=dataclasses.replace(
            measured.rings, test=dataclasses.replace(measured.rings.test, decided=False, sigmas=1.0)
        ),
    )
    (result,) = check_hand(case, undecided, 1.0)
    assert "do not tell" in result.text


def test_one_series_against_the_others(healthy):
    case, measured = healthy
    seen = hand_seen(case, measured)
    cases = [dataclasses.replace(case, name=f"TS_0{n}") for n in range(3)]
    assert list(check_hands_together(cases, [seen] * 3)) == []
    (found,) = check_hands_together(cases, [seen, dataclasses.replace(seen, hand=1.0), seen])
    assert found.series == "TS_01"


def test_a_pre_tilt_shows_in_the_darkening(healthy):
    case, measured = healthy
    light = dataclasses.replace(measured.light, y_tilt_deg=9.0, y_tilt_sigma_deg=0.4)
    found = faults(check_geometry(case, dataclasses.replace(measured, light=light)))
    assert [f.check for f in found] == ["pre-tilt"]
    assert "+9.0 degrees" in found[0].consequence
    for text in commands_of(found):
        must_parse(text)


def test_pixel_sizes_that_differ_are_found(recorded, healthy):
    case, measured = healthy
    other = dataclasses.replace(case, mdoc=an_mdoc(pixel=2 * PIXEL))
    (found,) = faults(check_pixel_size(other, measured))
    assert (found.severity, found.confidence) == ("error", "likely")
    assert "--pixel-size 10" in found.remedies[0].command
    calibrated = dataclasses.replace(case, mdoc=an_mdoc(pixel=1.03 * PIXEL))
    assert faults(check_pixel_size(calibrated, measured)) == []
    sections = list(an_mdoc().sections)
    sections[3] = dataclasses.replace(sections[3], pixel_spacing_angstrom=7.0)
    mixed = dataclasses.replace(case, mdoc=dataclasses.replace(an_mdoc(), sections=tuple(sections)))
    assert "several pixel sizes" in faults(check_pixel_size(mixed, measured))[0].title


def test_a_pixel_size_that_the_gradient_contradicts_is_doubted_and_no_more(healthy):
    case, measured = healthy
    rings = measured.rings
    wide = dataclasses.replace(rings.gradient, factor=1.10, sigma=0.03)
    (found,) = faults(
        check_gradients([case], [dataclasses.replace(measured, rings=dataclasses.replace(rings, gradient=wide))])
    )
    assert found.confidence in ("possible", "likely")
    assert found.severity == "warning"
    assert "calibrate" in found.consequence
    unsure = dataclasses.replace(rings.gradient, factor=1.10, sigma=0.06)
    told = dataclasses.replace(rings, gradient=unsure, defocus_angstrom=DEFOCUS)
    assert faults(check_gradients([case], [dataclasses.replace(measured, rings=told)])) == []
    both = dataclasses.replace(rings, gradient=unsure, defocus_angstrom=DEFOCUS * 1.21)
    (found,) = faults(check_gradients([case], [dataclasses.replace(measured, rings=both)]))
    assert found.confidence == "possible"
    half = dataclasses.replace(rings, likely_pixel_scale=0.5)
    found = faults(check_pixel_size(case, dataclasses.replace(measured, rings=half)))
    assert [f.title for f in found] == ["The pixel size looks 2 times too large."]


def test_the_gradient_measures_by_what_a_pixel_size_is_wrong(healthy):
    case, measured = healthy
    seen = ring_images(case, measured.sketch, [], movies=99)
    geometry = TiltGeometry.build(case.series.nominal_tilts_deg[seen.positions], z_rot_deg=AXIS)
    params, order = (
        CtfParams(thickness=False, inclination=False),
        [case.series.tilts[i].acquisition for i in seen.positions],
    )
    given = {"optics": Optics(), "params": params, "acquisition": order}
    fit = estimate_series_ctf(seen.images, geometry, pixel_size=1.2 * PIXEL, **given)
    scale = measure_gradient_scale(fit, geometry, **given)
    assert scale.factor == pytest.approx(1.2, abs=3 * scale.sigma)
    assert scale.factor - 1.0 > 2 * scale.sigma
    assert scale.pixel_factor == pytest.approx(1 / scale.factor)


def with_doses(measured, case, dose):
    series = case.series.with_tilts([dataclasses.replace(t, dose=dose) for t in case.series.tilts])
    sketch = dataclasses.replace(measured.sketch, series=series)
    return dataclasses.replace(case, series=series), dataclasses.replace(measured, sketch=sketch)


def test_doses_that_are_missing_or_doubled_are_found(healthy):
    case, measured = healthy
    none, unknown = with_doses(measured, dataclasses.replace(case, mdoc=None), 0.0)
    (found,) = faults(check_dose(none, unknown))
    assert (found.severity, found.confidence) == ("error", "certain")
    assert float(found.remedies[0].command.split("--dose ")[1].split(" ")[0]) == pytest.approx(DOSE, rel=0.05)
    twice = dataclasses.replace(case, mdoc=an_mdoc(dose=2 * DOSE))
    two, doubled = with_doses(measured, twice, 2 * DOSE)
    titles = {f.title: f for f in faults(check_dose(two, doubled))}
    assert titles["PriorRecordDose grows by another dose than ExposureDose."].confidence == "certain"
    assert titles["The dose looks too high for the electrons that were counted."].confidence == "possible"
    for text in commands_of(titles.values()):
        must_parse(text)


def test_an_order_that_dates_contradict_is_found(healthy):
    case, measured = healthy
    sections = list(an_mdoc().sections)
    sections[2], sections[9] = (
        dataclasses.replace(sections[2], prior_record_dose=sections[9].prior_record_dose),
        dataclasses.replace(sections[9], prior_record_dose=sections[2].prior_record_dose),
    )
    mixed = dataclasses.replace(case, mdoc=dataclasses.replace(an_mdoc(), sections=tuple(sections)))
    assert [f.check for f in faults(check_dose(mixed, measured))] == ["dose-order"]
    frames = tuple(dataclasses.replace(s, frame_doses=((1.0, 6),)) for s in an_mdoc().sections)
    other = dataclasses.replace(case, mdoc=dataclasses.replace(an_mdoc(), sections=frames))
    assert "FrameDosesAndNumber" in faults(check_dose(other, None))[0].title


def test_a_fading_beam_is_found(healthy):
    case, measured = healthy
    late = np.array([t.acquisition for t in case.series.tilts]) / (len(ANGLES) - 1)
    fading = dataclasses.replace(measured, intensities=measured.intensities * (1 - 0.3 * late))
    found = [f for f in faults(check_dose(case, fading)) if "order in which" in f.title]
    assert len(found) == 1
    assert "darker" in found[0].title


def test_dark_and_copied_images_are_found_in_the_files(recorded, tmp_path):
    for path in sorted((recorded / "frames").iterdir()):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    names = sorted(p.name for p in tmp_path.glob("*.tif"))
    dark = next(n for n in names if n.endswith("_56.0.tif"))
    few = np.random.default_rng(1).poisson(12.0, (1, SIDE, SIDE)).astype(np.uint8)
    write_tiff_movie(tmp_path / dark, few)
    copied = next(n for n in names if n.endswith("_-48.0.tif"))
    (tmp_path / copied).write_bytes((tmp_path / next(n for n in names if n.endswith("_-40.0.tif"))).read_bytes())
    write_mdoc(tmp_path / "TS_01.mdoc", an_mdoc())
    from eucentric.pipeline.doctor import measure

    case = gather([tmp_path]).cases[0]
    sketch = measure.sketch_series(case)
    found = measure.Measured(sketch=sketch)
    measure._judge(found)
    (fault,) = faults(check_tilts(case, found))
    assert "-48.0, 56.0" in fault.title
    assert any("dark" in c for c in commands_of([fault]))
    for text in commands_of([fault]):
        must_parse(text)


@pytest.fixture
def project(recorded, program, tmp_path):
    """Imported, with tables as three stages would leave them."""
    root = tmp_path / "project"
    assert program("import", root, "--frames", recorded / "frames", "--mdoc", recorded / "TS_01.mdoc")[0] == 0
    series = read_tilt_series(root / "import/tilt_series.star", "TS_01", root)
    for stage in ("motion", "align", "ctf"):
        image = root / stage / "one.mrc"
        write_mrc(image, np.zeros((8, 8), np.float32), PIXEL, is_volume=False)
        posed = series.with_tilts(
            [
                dataclasses.replace(
                    t, image=f"{stage}/one.mrc", pose=TiltPose(y_tilt_deg=t.nominal_tilt_deg, z_rot_deg=AXIS)
                )
                for t in series.tilts
            ]
        )
        put(root, stage, posed)
    return root


def put(root, stage, series, **metrics):
    write_tilt_series_set(row_path(root / stage, "TS_01"), [series], root)
    parameters = {"hand": "auto"} if stage == "ctf" else {"axis_search_deg": 5.0, "method": "auto"}
    write_record(
        root / stage,
        Record(
            stage=stage,
            series="TS_01",
            outcome="done",
            fingerprint="of another day",
            upstream="",
            stage_version=1,
            parameters=parameters,
            project={},
            seed=0,
            metrics=metrics,
        ),
    )


def looked_at(root, **options):
    return examine([root], measure=0, machine=False, **options)


def test_a_project_is_judged_by_its_records_where_it_has_them(project):
    series = read_tilt_series(row_path(project / "ctf", "TS_01"), "TS_01", project)
    put(project, "align", series, tilt_axis_deg=AXIS + 0.4, tilt_axis_sigma_deg=0.05)
    put(project, "ctf", series, hand=-1.0, hand_confidence_sigmas=14.0)
    found = looked_at(project)
    assert [f.check for f in found.faults] == ["outdated"]
    assert {"hand", "tilt-axis", "binning", "excluded-tilts"} <= {p.check for p in found.passed}
    put(project, "ctf", series.replace(hand=1.0), hand=1.0, hand_confidence_sigmas=14.0)
    (fault,) = [f for f in looked_at(project).faults if f.check == "hand"]
    assert fault.sigmas == 14.0
    assert "--tilt-axis -110" in fault.remedies[0].command
    assert str(project) in fault.remedies[1].command
    for remedy in fault.remedies:
        must_parse(remedy.command)


def test_a_tilt_that_was_left_out_since_is_found_in_the_tables(project, program):
    assert not [f for f in looked_at(project).faults if f.check == "excluded-tilts"]
    assert program("exclude", project, "TS_01", "8.0")[0] == 0
    (fault,) = [f for f in looked_at(project).faults if f.check == "excluded-tilts"]
    assert "align" in fault.title
    assert "8.0 degrees" in fault.compared
    assert fault.severity == "error"
    must_parse(fault.remedies[0].command)


def test_tables_that_contradict_each_other_are_found(project):
    series = read_tilt_series(row_path(project / "align", "TS_01"), "TS_01", project)
    put(project, "align", series.without({3: "dark"}))
    (fault,) = [f for f in looked_at(project).faults if f.check == "excluded-tilts"]
    assert "`ctf` uses tilts that `align`" in fault.title
    both = series.replace(excluded=series.without({3: "dark"}).excluded)
    put(project, "align", both)
    titles = [f.title for f in looked_at(project).faults if f.check == "excluded-tilts"]
    assert any("both as used and as left out" in t for t in titles)
    for fault in looked_at(project).faults:
        for remedy in fault.remedies:
            must_parse(remedy.command)


def test_a_header_of_another_pixel_size_is_found(project):
    write_mrc(project / "ctf/one.mrc", np.zeros((8, 8), np.float32), 2 * PIXEL, is_volume=False)
    found = [f for f in looked_at(project).faults if f.check == "binning"]
    assert [f.severity for f in found] == ["error"]
    assert "10 A" in found[0].compared


def test_images_that_turn_over_within_a_series_and_angles_of_the_other_sign(project):
    series = read_tilt_series(row_path(project / "align", "TS_01"), "TS_01", project)
    turned = list(series.tilts)
    turned[2] = dataclasses.replace(
        turned[2], pose=TiltPose(y_tilt_deg=turned[2].nominal_tilt_deg, z_rot_deg=AXIS - 180)
    )
    put(project, "ctf", series.with_tilts(turned))
    assert any("points the other way for some" in f.title for f in looked_at(project).faults)
    negated = [
        dataclasses.replace(t, pose=TiltPose(y_tilt_deg=-t.nominal_tilt_deg, z_rot_deg=AXIS)) for t in series.tilts
    ]
    put(project, "ctf", series.with_tilts(negated))
    assert any("aligned tilt angles have the other sign" in f.title for f in looked_at(project).faults)


def test_a_lock_that_a_dead_process_left_is_found(project):
    note = {
        "pid": 4_000_000,
        "host": machine.socket.gethostname(),
        "since": "2024-05-06T09:00:00+00:00",
        "command": "run",
    }
    (project / LOCK_FILE).write_text(json.dumps(note))
    found = [f for f in faults(machine.check_machine(gather([project]))) if f.check == "lock"]
    assert "left behind" in found[0].title
    must_parse(found[0].remedies[0].command)
    (project / LOCK_FILE).write_text(json.dumps({**note, "host": "elsewhere"}))
    found = [f for f in faults(machine.check_machine(gather([project]))) if f.check == "lock"]
    assert found[0].confidence == "possible"
    (project / LOCK_FILE).write_text("")
    assert not [f for f in faults(machine.check_machine(gather([project]))) if f.check == "lock"]


GPU = machine.GpuState(
    torch_version="2.9",
    built_for="12.6",
    seen=1,
    hardware=True,
    driver="NVRM version 550",
    hidden_by=None,
    names=("H100",),
)


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({}, None),
        ({"seen": 0, "hardware": False}, None),
        ({"seen": 0, "built_for": None}, "a build for CPUs"),
        ({"seen": 0}, "PyTorch cannot use it"),
        ({"seen": 0, "hidden_by": ""}, "hides the GPUs"),
        ({"too_new": ("B200",)}, "no code for this GPU"),
    ],
)
def test_why_a_gpu_is_not_used(changes, title):
    found = faults(machine.check_gpus(dataclasses.replace(GPU, **changes)))
    assert [title in f.title for f in found] == ([] if title is None else [True])


def test_threads_memory_and_disk_against_what_is_there():
    assert faults(machine.check_threads(8, None, {}, 8)) == []
    assert "grants 2.0 cores" in faults(machine.check_threads(8, 2.0, {}, 8))[0].compared
    assert "OMP_NUM_THREADS=64" in faults(machine.check_threads(8, None, {"OMP_NUM_THREADS": "64"}, 8))[0].compared
    gib = 2**30
    assert faults(machine.check_memory(4 * gib, 8 * gib, "P")) == []
    (memory,) = faults(machine.check_memory(40 * gib, 8 * gib, "P"))
    (disk,) = faults(machine.check_disk(40 * gib, 8 * gib, "P", "/data"))
    assert faults(machine.check_disk(4 * gib, 8 * gib, "P", "/data")) == []
    for text in commands_of([memory, disk]):
        must_parse(text)


def test_code_for_a_gpu():
    assert machine._serves("sm_90", 9, 0)
    assert machine._serves("sm_80", 8, 6)
    assert not machine._serves("sm_90", 10, 0)
    assert machine._serves("compute_90", 10, 0)


def test_an_mdoc_alone(program, tmp_path):
    path = tmp_path / "TS_01.mdoc"
    write_mdoc(path, an_mdoc())
    code, out, _ = program("doctor", path, "--no-machine")
    assert code == 0
    assert "Nothing wrong was found" in out
    write_mdoc(path, an_mdoc(sign=-1.0, rotation=AXIS - 90.0, dose=0.0))
    code, out, _ = program("doctor", path, "--no-machine", "--json")
    assert code == 1
    checks = {f["check"] for f in json.loads(out.splitlines()[-1])["findings"]}
    assert checks == {"tilt-sign", "mdoc-axis", "dose"}


def test_a_table_alone(program, project):
    code, out, _ = program("doctor", project / "ctf/records/TS_01.star", "--no-machine", "--all-checks")
    assert code == 0
    assert "none twice" in out


def test_wrong_input_is_said_in_words(program, tmp_path):
    code, _, problem = program("doctor", tmp_path / "nothing", "--no-machine")
    assert code == 2
    assert "holds no mdoc" in problem
    (tmp_path / "empty").mkdir()
    assert program("doctor", tmp_path / "empty")[0] == 2
    (tmp_path / "bad.star").write_text("data_\nloop_\n_rlnTomoName #1\n")
    code, _, problem = program("doctor", tmp_path / "bad.star")
    assert code == 2
    assert "Traceback" not in problem


def test_movies_that_are_missing_are_told_of(program, recorded, tmp_path):
    names = sorted((recorded / "frames").iterdir())
    code, out, _ = program("doctor", recorded / "TS_01.mdoc", *names[:-2], "--no-machine", "--measure", "0")
    assert code == 0
    assert "WARNING" in out
    assert "2 movies are named" in out
    (tmp_path / "TS_01.mdoc").write_text("[ZValue = 0]\nTiltAngle = x\n")
    code, out, _ = program("doctor", tmp_path / "TS_01.mdoc", "--no-machine")
    assert code == 1
    assert "Line 2" in out


def test_the_machine_alone(program):
    code, out, _ = program("doctor", "--all-checks", "--json")
    assert code in (0, 1)
    report = json.loads(out.splitlines()[-1])
    checks = {r["check"] for part in ("findings", "passed", "not_checked") for r in report[part]}
    assert {"gpu", "threads", "open-files", "temporary"} <= checks


def test_a_plan_with_a_hand_is_asked(project):
    series = read_tilt_series(row_path(project / "ctf", "TS_01"), "TS_01", project)
    put(project, "ctf", series, hand=-1.0, hand_confidence_sigmas=14.0)
    Plan.load(project).save("ctf", {"hand": 1})
    (fault,) = [f for f in looked_at(project).faults if f.check == "hand"]
    assert "set to +1" in fault.title
    assert record_path(project / "ctf", "TS_01").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["TS_01", "TS_02", "TS_03"])
def test_practice_series_from_raw_files(program, shared_data, name):
    practice = shared_data / "practice"
    movies = sorted(practice.glob(f"frames/{name}_*.tif"))
    files = (practice / f"{name}.mdoc", *movies, "--gain", practice / "gain.mrc", "--no-machine", "--json")
    code, out, _ = program("doctor", *files)
    report = json.loads(out.splitlines()[-1])
    found = {f["check"]: f for f in report["findings"]}
    assert code == 0
    assert set(found) == ({"tilts", "pre-tilt"} if name == "TS_02" else set())
    if name == "TS_02":
        assert "-60.0, 60.0 degrees" in found["tilts"]["title"]
        assert "9 degrees" in found["pre-tilt"]["title"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "check", "code"),
    [
        ("Tilt axis angle = 85.0", "Tilt axis angle = -95.0", "hand", 1),
        ("Tilt axis angle = 85.0", "Tilt axis angle = -85.0", "tilt-axis", 1),
        ("PixelSpacing = 4.0", "PixelSpacing = 4.4", "pixel-size", 0),
        ("ExposureDose = 3.0", "ExposureDose = 6.0", "dose-counts", 0),
        ("ExposureDose = 3.0", "ExposureDose = 0", "dose", 1),
    ],
)
def test_faults_planted_in_a_practice_series(program, shared_data, tmp_path, old, new, check, code):
    practice = shared_data / "practice"
    text = (practice / "TS_01.mdoc").read_text()
    assert old in text
    (tmp_path / "TS_01.mdoc").write_text(text.replace(old, new))
    movies = sorted(practice.glob("frames/TS_01_*.tif"))
    files = (tmp_path / "TS_01.mdoc", *movies, "--gain", practice / "gain.mrc", "--no-machine", "--json")
    got, out, _ = program("doctor", *files)
    assert got == code
    assert check in {f["check"] for f in json.loads(out.splitlines()[-1])["findings"]}
