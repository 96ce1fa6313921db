"""`eucentric classify` on a small project of its own: two kinds are told apart, and what cannot be done is said."""

import json

import numpy as np
import pytest
import torch
from blob_particle import blob_particle
from scipy.spatial.transform import Rotation

from eucentric.averaging.classify_checks import adjusted_rand
from eucentric.cli.main import run
from eucentric.geometry import TiltGeometry
from eucentric.geometry.so3 import symmetric_angle_deg
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles, write_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import Tilt, TiltPose, TiltSeries
from eucentric.models.particles import ParticleSet
from eucentric.projection.slices import extract_slices, volume_to_grid

PIXEL, BOX, SIDE, COUNT = 8.0, 24, 224, 40
ANGLES = np.arange(-60.0, 61.0, 15.0)
PLAIN = ["--box-size", "24", "--no-ctf", "--no-dose-weighting", "--low-pass-angstrom", "30", "--starts", "2"]


def kind(seed: int) -> torch.Tensor:
    return blob_particle(seed, blobs=30, radius_px=6.5, box=BOX)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one series that shows 20 particles of each of two kinds, and their list."""
    root = tmp_path_factory.mktemp("classes")
    (root / "ctf").mkdir()
    (root / "eucentric.toml").write_text("")
    rng = np.random.default_rng(1)
    geometry = TiltGeometry.build(ANGLES, z_rot_deg=85.0)
    axis = (np.arange(7) - 3) * 220.0
    places = np.array([[x, y, 0.0] for x in axis for y in axis])[:COUNT] + rng.uniform(-8, 8, (COUNT, 3))
    rotations = Rotation.random(COUNT, rng=rng).as_matrix()
    states = rng.permutation(np.arange(COUNT) % 2)
    grids = [volume_to_grid(kind(k), (2 * BOX,) * 3) for k in (0, 1)]
    images = 1.0 + 0.05 * rng.normal(size=(len(ANGLES), SIDE, SIDE))
    fy, fx = torch.fft.fftfreq(BOX)[:, None].numpy(), torch.fft.rfftfreq(BOX).numpy()
    for place, turn, state in zip(places, rotations, states, strict=True):
        spectra = extract_slices(grids[state], geometry.matrices @ turn, BOX)
        at = geometry.project(place[None])[:, 0, :2] / PIXEL + SIDE // 2
        corner = np.rint(at).astype(int)
        part = at - corner
        ramp = np.exp(-2j * np.pi * (fy * part[:, 1, None, None] + fx * part[:, 0, None, None]))
        seen = torch.fft.irfft2(spectra * torch.from_numpy(ramp).to(spectra), s=(BOX, BOX))
        seen = torch.fft.fftshift(seen, dim=(1, 2)).numpy()
        for t, (x, y) in enumerate(corner - BOX // 2):
            images[t, y : y + BOX, x : x + BOX] -= 0.02 * seen[t]
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
    kinds = np.array(["one", "other"])[states]
    known = ParticleSet.build("TS_01", places, rotations=rotations, kinds=kinds)
    write_particles(root / "mixed.star", known, "relion5")
    write_particles(root / "few.star", known.select(np.arange(3)), "relion5")
    off = Rotation.from_rotvec(np.deg2rad(5.0) * rng.normal(size=(COUNT, 3))).as_matrix()
    wrong = known.with_rotations(off @ rotations).with_positions(places + rng.uniform(-8.0, 8.0, (COUNT, 3)))
    write_particles(root / "wrong.star", wrong, "relion5")
    lost = known.with_rotations(Rotation.random(COUNT, rng=rng).as_matrix())
    write_particles(root / "lost.star", lost, "relion5")
    for k in (0, 1):
        write_mrc(root / f"kind_{k}.mrc", kind(k).numpy(), PIXEL, "float32")
    return root, kinds


@pytest.mark.parametrize("method", ["ml", "pca", "multi-reference"])
def test_two_kinds_are_told_apart(project, method, capsys):
    root, kinds = project
    more = []
    if method == "multi-reference":
        more = ["--references", str(root / "kind_0.mrc"), str(root / "kind_1.mrc")]
    output = root / method
    given = ["classify", str(root / "mixed.star"), "--output", str(output), "--method", method, *PLAIN, *more]
    assert run([*given, "--json"]) == 0
    told = capsys.readouterr().out
    assert "Class 1: 2" in told
    found = read_particles(output / "particles.star")
    labels = found.columns["eucClassProbability1"] > 0.5
    assert adjusted_rand(labels, kinds) > 0.85
    np.testing.assert_allclose(
        found.columns["eucClassProbability1"] + found.columns["eucClassProbability2"], 1.0, atol=1e-4
    )
    np.testing.assert_array_equal(found.texts["eucKindBefore"], kinds)
    about = json.loads((output / "classes.json").read_text())
    assert sum(about["counts"]) == COUNT
    assert about["counts"] == json.loads(told.splitlines()[-1])["counts"]
    # the map of each class is its kind's
    own = [int(labels[kinds == name].mean() < 0.5) for name in ("one", "other")]
    for k, number in enumerate(own):
        volume = read_mrc(output / f"class_{number + 1}.mrc")[0]
        right, wrong = (np.corrcoef(volume.ravel(), kind(j).numpy().ravel())[0, 1] for j in (k, 1 - k))
        assert right > wrong + 0.1
    assert run(given) == 2
    assert "exists already" in capsys.readouterr().err


def _errors(root, file):
    true, found = read_particles(root / "mixed.star"), read_particles(file)
    away = np.einsum("nji,nj->ni", found.rotations, found.positions_angstrom - true.positions_angstrom)
    for kind in ("one", "other"):
        # maps are about the middle of their mass
        away[true.kinds == kind] -= np.median(away[true.kinds == kind], axis=0)
    return symmetric_angle_deg(found.rotations, true.rotations), np.linalg.norm(away, axis=1)


def test_poses_that_are_off_are_put_right_with_the_classes(project):
    root, kinds = project
    output = root / "local"
    given = ["classify", str(root / "wrong.star"), "--output", str(output), *PLAIN]
    more = ["--align", "local", "--rounds", "1", "--reach-deg", "15", "--shift-angstrom", "12"]
    assert run([*given, *more]) == 0
    found = read_particles(output / "particles.star")
    assert adjusted_rand(found.columns["eucClassProbability1"] > 0.5, kinds) > 0.85
    before, now = (_errors(root, file) for file in (root / "wrong.star", output / "particles.star"))
    assert np.median(now[0]) < 0.6 * np.median(before[0])
    assert np.median(now[1]) < 0.6 * np.median(before[1])


@pytest.mark.slow
def test_orientations_that_are_not_known_are_found_with_every_map(project):
    root, kinds = project
    output = root / "global"
    maps = [str(root / "kind_0.mrc"), str(root / "kind_1.mrc")]
    given = ["classify", str(root / "lost.star"), "--output", str(output), "--method", "multi-reference", *PLAIN]
    assert run([*given, "--align", "global", "--shift-angstrom", "8", "--references", *maps]) == 0
    found = read_particles(output / "particles.star")
    assert adjusted_rand(found.columns["eucClassProbability1"] > 0.5, kinds) > 0.85
    angle, away = _errors(root, output / "particles.star")
    assert np.median(_errors(root, root / "lost.star")[0]) > 90.0
    assert np.median(angle) < 5.0
    assert np.median(away) < 3.0


def test_what_does_not_go_together_is_said(project, capsys, tmp_path):
    root, _ = project
    start = ["classify", str(root / "mixed.star"), "--output", str(tmp_path / "none"), *PLAIN]
    small = tmp_path / "small.mrc"
    write_mrc(small, np.ones((16, 16, 16), dtype=np.float32), PIXEL, "float32")
    wild = tmp_path / "wild.mrc"
    write_mrc(wild, np.full((BOX,) * 3, 7.0, dtype=np.float32), PIXEL, "float32")
    for more, word in (
        (["--method", "multi-reference"], "two maps or more"),
        (["--references", str(small)], "go with --method multi-reference"),
        (["--align", "global"], "multi-reference only"),
        (["--align", "local", "--method", "pca"], "Leave out --align"),
        (["--mask", str(small)], "16 x 16 x 16 voxels"),
        (["--mask", str(wild)], "outside 0 to 1"),
        (["--classes", "1"], "classes"),
    ):
        assert run([*start, *more]) == 2, more
        assert word in capsys.readouterr().err
    start[1] = str(root / "few.star")
    assert run(start) == 2
    assert "3 particles are seen" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
