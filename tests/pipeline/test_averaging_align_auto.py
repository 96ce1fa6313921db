"""`eucentric average --auto` on a small project of its own: to the map, resumed, refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from blob_particle import blob_particle
from scipy.spatial.transform import Rotation

from eucentric.averaging.iterate_params import IterateParams
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.errors import InputError
from eucentric.geometry import TiltGeometry
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.models.particles import ParticleSet
from eucentric.pipeline import iterate_average as module
from eucentric.pipeline.executors import InProcess
from eucentric.pipeline.iterate_average import iterate_average
from eucentric.pipeline.iterate_job import IterateSettings
from eucentric.projection.slices import extract_slices, volume_to_grid

PIXEL, BOX, SIDE = 8.0, 32, 224
ANGLES = np.arange(-60.0, 61.0, 10.0)
CPU = torch.device("cpu")


def particle() -> torch.Tensor:
    return blob_particle(0, blobs=40, radius_px=9.0, box=BOX)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one series of 20 particles, their true list and one with turned and moved poses."""
    root = tmp_path_factory.mktemp("auto")
    (root / "ctf").mkdir()
    (root / "eucentric.toml").write_text("")
    rng = np.random.default_rng(1)
    geometry = TiltGeometry.build(ANGLES, z_rot_deg=85.0)
    axis = np.arange(-2, 3) * 280.0
    places = np.array([[x, y, 0.0] for x in axis for y in axis[:4] + 140.0]) + rng.uniform(-20, 20, (20, 3))
    rotations = Rotation.random(20, rng=rng).as_matrix()
    grid = volume_to_grid(particle(), (2 * BOX,) * 3)
    images = 1.0 + 0.06 * rng.normal(size=(len(ANGLES), SIDE, SIDE))
    for place, turn in zip(places, rotations, strict=True):
        spectra = extract_slices(grid, geometry.matrices @ turn, BOX)
        at = geometry.project(place[None])[:, 0, :2] / PIXEL + SIDE // 2
        corner = np.rint(at).astype(int)
        part = at - corner
        fy, fx = torch.fft.fftfreq(BOX)[:, None].numpy(), torch.fft.rfftfreq(BOX).numpy()
        ramp = np.exp(-2j * np.pi * (fy * part[:, 1, None, None] + fx * part[:, 0, None, None]))
        seen = torch.fft.fftshift(
            torch.fft.irfft2(spectra * torch.from_numpy(ramp).to(spectra), s=(BOX, BOX)), dim=(1, 2)
        )
        for t, (x, y) in enumerate(corner - BOX // 2):
            low, high = max(x, 0), min(x + BOX, SIDE)
            images[t, y : y + BOX, low:high] -= 0.02 * seen[t, :, low - x : high - x].numpy()
    write_mrc(root / "stack.mrc", images.astype(np.float32), PIXEL, "float32", is_volume=False)
    tilts = [
        Tilt(
            nominal_tilt_deg=float(angle),
            acquisition=i,
            dose=1.0,
            pre_exposure=float(i),
            image=f"{i + 1}@stack.mrc",
            pose=TiltPose(y_tilt_deg=float(angle), z_rot_deg=85.0),
        )
        for i, angle in enumerate(ANGLES)
    ]
    series = TiltSeries.sorted(tilts, name="TS_01", pixel_size_angstrom=PIXEL, image_shape=(SIDE, SIDE))
    write_tilt_series_set(root / "ctf" / "tilt_series.star", [series], root)
    true = ParticleSet.build("TS_01", places, rotations=rotations, kinds="blob")
    turned = Rotation.from_rotvec(np.deg2rad(4.0) * rng.normal(size=(20, 3))).as_matrix() @ rotations
    given = true.with_rotations(turned).with_positions(places + rng.uniform(-6, 6, (20, 3)))
    given = given.with_column("eucPriorEvidence", np.full(20, 99.0))  # of a search before
    write_particles(root / "true.star", true, "relion5")
    write_particles(root / "picks.star", given, "relion5")
    normals = (
        true.rotations
        @ Rotation.from_euler(
            "ZX", np.stack([rng.uniform(-180, 180, 20), rng.normal(0, 5, 20)], axis=1), degrees=True
        ).as_matrix()
    )
    write_particles(root / "normals.star", given.with_rotations(normals), "relion5")
    write_particles(root / "inwards.star", given.with_rotations(normals @ np.diag([1.0, -1.0, -1.0])), "relion5")
    write_particles(root / "bare.star", ParticleSet.build("TS_01", places), "relion5")
    write_mrc(root / "start.mrc", particle().numpy(), PIXEL, "float32")
    return root


def settings(**changes) -> IterateSettings:
    iterate = {"max_iterations": 2, "start_low_pass_angstrom": 50.0, "shift_angstrom": 12.0, "kept": 16, **changes}
    return IterateSettings(
        extract=ExtractParams(box_size=BOX, ctf=False, dose_weighting=False),
        average=AverageParams(mask_diameter_angstrom=170.0),
        iterate=IterateParams(**iterate),
    )


@pytest.fixture(scope="module")
def done(project):
    return iterate_average(project / "picks.star", project / "whole", settings(), device=CPU)


def test_poses_given_become_those_that_are_true(project, done):
    true, given = read_particles(project / "true.star"), read_particles(project / "picks.star")
    found = read_particles(done.folder / "particles.star")
    before = np.median(symmetric_angle_deg(given.rotations, true.rotations))
    after = np.median(symmetric_angle_deg(found.rotations, true.rotations))
    assert after < 0.4 * before, (before, after)
    moved = np.median(np.linalg.norm(found.positions_angstrom - true.positions_angstrom, axis=1))
    assert moved < 0.5 * np.median(np.linalg.norm(given.positions_angstrom - true.positions_angstrom, axis=1))
    assert done.result.correlation.resolution_angstrom < 30.0
    written, header = read_mrc(done.folder / "map.mrc")
    assert header.voxel_size_angstrom[0] == pytest.approx(PIXEL)
    assert np.corrcoef(written.ravel(), particle().numpy().ravel())[0, 1] > 0.8
    assert {"rlnRandomSubset", "eucPoseSigmaDeg", "eucPoseSigmaAngst"} <= set(found.columns)
    assert "eucPriorEvidence" in given.columns
    assert "eucPriorEvidence" not in found.columns


class Shared(InProcess):
    """An executor of three slots in this process."""

    slots = 3

    def __init__(self):
        super().__init__()
        self.shares = []

    def map(self, function, items):
        items = [pickle.loads(pickle.dumps(item)) for item in items]  # as they travel to workers
        self.shares.append([len(item.opened) for item in items])
        return super().map(function, items)


def test_shared_among_workers_the_result_is_the_same(project, done):
    executor = Shared()
    short = settings(max_iterations=1)
    alone = iterate_average(project / "picks.star", project / "alone", short, device=CPU)
    shared = iterate_average(project / "picks.star", project / "shared", short, device=CPU, executor=executor)
    assert executor.shares == [[7, 7, 6]] * 3
    scale = float(alone.result.volume.abs().max())
    np.testing.assert_allclose(shared.result.volume, alone.result.volume, atol=1e-4 * scale)
    first, second = (read_particles(made.folder / "particles.star") for made in (alone, shared))
    # the climb ends for a batch together
    np.testing.assert_allclose(second.rotations, first.rotations, atol=2e-3)
    np.testing.assert_allclose(second.positions_angstrom, first.positions_angstrom, atol=0.1)


@pytest.mark.slow
def test_worker_processes_share_an_average(program, project, done):
    arguments = ["average", project / "true.star", "--box-size", BOX, "--no-ctf", "--no-dose-weighting"]
    arguments += ["--mask-diameter-angstrom", 170]
    assert program(*arguments, "--output", project / "one")[0] == 0
    assert program(*arguments, "--output", project / "two", "--workers", 2)[0] == 0
    one, two = (read_mrc(project / name / "map.mrc")[0] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, atol=1e-4 * np.abs(one).max())


def test_every_iteration_is_kept(done):
    for number in range(3):
        folder = done.folder / "iterations" / f"{number:03d}"
        assert (folder / "state.json").is_file()
        assert (folder / "reference1.mrc").is_file()
        assert (folder / "fsc.star").is_file() == (number > 0)
    record = json.loads((done.folder / "iterations.json").read_text())
    assert [r["number"] for r in record["rounds"]] == [0, 1, 2]


def test_an_interrupted_iteration_costs_itself_only(project, done, monkeypatch):
    output = project / "interrupted"
    whole, calls = module._iterate, []

    def breaks(job, before, on_step):
        calls.append(before.history[-1].number)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(job, before, on_step)

    monkeypatch.setattr(module, "_iterate", breaks)
    with pytest.raises(KeyboardInterrupt):
        iterate_average(project / "picks.star", output, settings(), device=CPU)
    # what an iteration had begun to write does not count
    (output / "iterations" / "002").mkdir(exist_ok=True)
    (output / "iterations" / "002" / "reference1.mrc").write_bytes(b"torn")
    calls.clear()
    monkeypatch.setattr(module, "_iterate", lambda *a: (calls.append(a[1].history[-1].number), whole(*a))[1])
    again = iterate_average(project / "picks.star", output, settings(), device=CPU)
    assert calls == [1]
    np.testing.assert_array_equal(again.result.volume.numpy(), done.result.volume.numpy())


def test_other_settings_do_not_mix_with_what_was_done(project, done):
    with pytest.raises(InputError, match="other settings"):
        iterate_average(project / "picks.star", done.folder, settings(reach_deg=11.0), device=CPU)


def test_a_damaged_iteration_is_named(project, done):
    output = project / "damaged"
    shutil.copytree(done.folder, output)
    state = output / "iterations" / "002" / "state.json"
    values = json.loads(state.read_text())
    del values["turn"]
    state.write_text(json.dumps(values))
    with pytest.raises(InputError, match="damaged"):
        iterate_average(project / "picks.star", output, settings(), device=CPU)


def test_a_start_map_and_no_orientations(project):
    made = iterate_average(
        project / "bare.star",
        project / "global",
        settings(search="global", max_iterations=1),
        device=CPU,
        reference=project / "start.mrc",
    )
    true, found = read_particles(project / "true.star"), read_particles(made.folder / "particles.star")
    # a map is centred by its mass: turns are told apart from that
    assert np.median(symmetric_angle_deg(found.rotations, true.rotations)) < 5.0


def test_normals_alone_lead_to_the_poses_and_wrong_ones_are_told(project):
    changes = {"search": "global", "prior": "normal", "prior_sigma_deg": 6.0, "max_iterations": 1, "kept": 48}
    start, true = project / "start.mrc", read_particles(project / "true.star")
    made = iterate_average(project / "normals.star", project / "n", settings(**changes), device=CPU, reference=start)
    found = read_particles(made.folder / "particles.star")
    assert np.median(symmetric_angle_deg(found.rotations, true.rotations)) < 6.0
    assert 1.0 < found.columns["eucPriorEvidence"].mean() < 90.0
    assert not any("normals" in c for c in made.caveats)
    wrong = iterate_average(project / "inwards.star", project / "i", settings(**changes), device=CPU, reference=start)
    assert any("speak against the prior of normals" in c for c in wrong.caveats)
    record = json.loads((wrong.folder / "iterations.json").read_text())
    assert record["caveats"] == list(wrong.caveats)


@pytest.mark.parametrize(
    ("file", "changes", "reference", "words"),
    [
        ("bare.star", {"search": "global", "prior": "normal"}, "start.mrc", "no orientations for --prior normal"),
        ("bare.star", {}, None, "no orientations to make a start map"),
        ("bare.star", {}, "start.mrc", "--search global"),
        ("missing.star", {}, None, "does not exist"),
    ],
)
def test_wrong_input_is_told_in_words(project, file, changes, reference, words):
    with pytest.raises(InputError, match=words):
        iterate_average(
            project / file,
            project / "wrong",
            settings(**changes),
            device=CPU,
            table=project / "ctf" / "tilt_series.star",
            reference=None if reference is None else project / reference,
        )


def test_kinds_that_are_not_there_and_boxes_too_small_are_refused(project):
    with pytest.raises(InputError, match="no particle of kind ribosome"):
        iterate_average(project / "picks.star", project / "wrong", settings(), device=CPU, kinds=["ribosome"])
    small = IterateSettings(
        extract=ExtractParams(box_size=16, ctf=False, dose_weighting=False),
        average=AverageParams(),
        iterate=IterateParams(search="global"),
    )
    with pytest.raises(InputError, match="--box-size"):
        iterate_average(project / "bare.star", project / "wrong", small, device=CPU, reference=project / "start.mrc")


def test_the_command_goes_on_and_tells_every_round(program, project, done):
    code, out, err = program(
        "average", project / "picks.star", "--auto", "--output", done.folder, "--box-size", BOX, "--no-ctf",
        "--no-dose-weighting", "--mask-diameter-angstrom", 170, "--max-iterations", 2, "--start-low-pass-angstrom", 50,
        "--shift-angstrom", 12, "--kept", 16, "--device", "cpu", "--json",
    )  # fmt: skip
    assert code == 0, err
    assert "Iteration 2:" in out
    told = json.loads(out.splitlines()[-1])
    assert told["particles"] == 20
    assert told["resolution_angstrom"] == pytest.approx(done.result.correlation.resolution_angstrom)
    assert [r["number"] for r in told["rounds"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--auto", "--mask", "mask.mrc"], "exclude each other"),
        (["--reference", "start.mrc"], "go with --auto"),
        (["--kind", "blob"], "go with --auto"),
        (["--search", "global"], "go with --auto"),
        (["--auto", "--prior-sigma-deg", 5], "Say what is known: --prior orientation, normal or axis"),
        (["--auto", "--prior", "orientation", "--shift-along-angstrom", 5], "Give --prior normal or axis"),
    ],
)
def test_options_that_do_not_go_together_are_refused(program, project, arguments, words):
    code, _, err = program("average", project / "picks.star", "--output", project / "wrong", *arguments)
    assert code == 2
    assert words in " ".join(err.split())
