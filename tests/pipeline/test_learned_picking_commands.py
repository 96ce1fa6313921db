"""`eucentric pick train`, `apply` and `embed` on files."""

import importlib
import json
import re
import shutil

import numpy as np
import pytest
import torch

from eucentric.io.mrc import write_mrc
from eucentric.io.particles import read_particles, read_tomogram_frames, write_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import ParticleSet
from eucentric.models.tilt_series import TiltSeries, Tomogram
from eucentric.networks import Model, UNet, UNetParams, model_to_bytes
from eucentric.networks.train_network import initialise
from eucentric.pipeline.learned_files import example_particles
from eucentric.pipeline.plan import Plan
from eucentric.pipeline.records import COLLECTIVE
from eucentric.pipeline.stages.report import WriteReport
from eucentric.pipeline.store import StageStore
from eucentric.pipeline.train_picker_files import read_labels
from eucentric.report.params import ReportParams

VOXEL = 12.0
SMALL = ["--width", "8", "--levels", "2", "--patch-size", "24", "--turned-copies", "0", "--batch-size", "1"]


def write_tomogram(path, seed, voxel=VOXEL, count=10):
    rng = np.random.default_rng(seed)
    shape = (28, 56, 56)
    volume = rng.normal(size=shape).astype(np.float32)
    places = [np.array([14.0, 8 + 13 * (n % 4), 8 + 18 * (n // 4)]) + rng.uniform(-3, 3, 3) for n in range(count)]
    z, y, x = np.indices(shape)
    for place in places:
        volume -= 3.0 * np.exp(-((z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2) / 8.0)
    write_mrc(path, volume, voxel)
    centre = np.array([n // 2 for n in shape])
    return ((np.array(places) - centre) * voxel)[:, ::-1]


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "T1.mrc"
    positions = write_tomogram(path, 1)
    labels = tmp_path / "labels.star"
    write_particles(labels, ParticleSet.build("T1", positions, kinds="ball"), "relion5")
    return path, labels


def command(tomogram, labels, output, *more):
    return ["pick", "train", tomogram, "--labels", labels, "--diameter", "100", "--output", output, *SMALL, *more]


def page_of_picks(root, volume, model, program):
    """The section of a project's report after picking in its one tomogram."""
    (root / "reconstruct").mkdir(parents=True)
    shutil.copy(volume, root / "reconstruct" / "T2.mrc")
    tomogram = Tomogram(path="reconstruct/T2.mrc", voxel_size_angstrom=VOXEL, shape_zyx=(28, 56, 56))
    series = TiltSeries(name="T2", pixel_size_angstrom=VOXEL, image_shape=(56, 56), tilts=(), tomogram=tomogram)
    for stage in ("import", "reconstruct"):
        write_tilt_series_set(root / stage / "tilt_series.star", [series], root)
    Plan.write_default(root)
    code, _, errors = program("pick", "apply", root, "--model", model)
    assert code == 0, errors
    store = StageStore(root, "report", COLLECTIVE)
    assert WriteReport().run([], ReportParams(dots_per_inch=30), store, None, None).caveats == ()
    page = (root / "report" / "T2.html").read_text(encoding="utf-8")
    return page.partition("<h2>Picks of learned</h2>")[2].partition("<h2>")[0]


def test_from_labels_to_picks_of_another_tomogram(tomogram, tmp_path, program):
    path, labels = tomogram
    model = tmp_path / "ball.model"
    train = command(path, labels, model, "--steps", "60", "--learning-rate", "0.01", "--complete", "--json")
    code, told, errors = program(*train)
    assert code == 0, errors
    assert "calibrated on" in told
    made = json.loads(told.splitlines()[-1])
    assert made["classes"] == ["ball"]
    assert made["labels"] == 10
    about = json.loads((tmp_path / "ball.model.json").read_text())
    assert len(about["losses"]) == 60
    assert about["provenance"]["labels"] == [str(labels)]
    other = tmp_path / "T2.mrc"
    positions = write_tomogram(other, 2)
    code, told, errors = program("pick", "apply", other, "--model", model, "--output", tmp_path / "p.star", "--json")
    assert code == 0, errors
    picks = read_particles(tmp_path / "p.star")
    gaps = np.linalg.norm(picks.positions_angstrom[:, None] - positions[None], axis=2)
    assert (gaps.min(0) < 25.0).sum() >= 8
    assert (gaps.min(1) < 25.0).sum() >= 0.8 * len(picks)
    assert ((picks.scores > 0) & (picks.scores <= 1)).all()
    assert json.loads(told.splitlines()[-1])["counts"] == {"T2": {"ball": len(picks)}}
    assert json.loads((tmp_path / "run.json").read_text())["provenance"]["seed"] == 0
    assert program("pick", "apply", other, "--model", model, "--output", tmp_path / "p.star")[0] == 2
    assert (tmp_path / "ball.model.png").read_bytes().startswith(b"\x89PNG")
    page = page_of_picks(tmp_path / "project", other, model, program)
    assert f"<td>ball</td><td>{len(picks)}</td>" in page
    assert "Scores of picks" in re.findall(r'alt="([^"]+)"', page)
    assert "decoys" not in page
    strict = tmp_path / "strict.star"
    none = ["pick", "apply", other, "--model", model, "--min-probability", "1", "--output", strict]
    code, told, _ = program(*none)
    assert code == 0
    assert "Nothing was found in T2" in told
    coarse = tmp_path / "coarse.mrc"
    write_tomogram(coarse, 3, voxel=20.0)
    code, _, errors = program("pick", "apply", coarse, "--model", model, "--output", tmp_path / "c.star")
    assert code == 2
    assert "voxels of 20 A, and the network needs 12 A" in errors
    code, _, errors = program("pick", "embed", other, "--model", model, "--output", tmp_path / "e.star")
    assert code == 2
    assert "has no embedding" in errors


def test_a_stopped_training_goes_on(tomogram, tmp_path, program, monkeypatch):
    path, labels = tomogram
    whole, stopped = tmp_path / "whole.model", tmp_path / "stopped.model"
    assert program(*command(path, labels, whole, "--steps", "8"))[0] == 0
    module = importlib.import_module("eucentric.cli.learned_commands")

    def stop(step, steps, loss):
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "shown_steps", lambda: stop)
        assert program(*command(path, labels, stopped, "--steps", "8"))[0] == 130
    kept = stopped.with_name("stopped.model.training")
    assert kept.is_file()
    seen = []
    monkeypatch.setattr(module, "shown_steps", lambda: lambda step, steps, loss: seen.append(step))
    assert program(*command(path, labels, stopped, "--steps", "8"))[0] == 0
    assert seen == [6, 7, 8]
    assert not kept.exists()
    first, second = (json.loads(m.with_name(m.name + ".json").read_text())["losses"] for m in (whole, stopped))
    assert first == second


def test_labels_in_voxels_are_read_on_the_tomogram_that_is_trained_on(tomogram, tmp_path):
    """As clicked in IMOD; of a list in voxels nothing else tells the origin."""
    path, labels = tomogram
    clicked = tmp_path / "T1.mod"
    written = read_particles(labels)
    write_particles(clicked, written, "imod", read_tomogram_frames(path))
    assert clicked.is_file()
    for found in (read_labels(clicked, path), example_particles(path, None, None, clicked)):
        np.testing.assert_allclose(found.positions_angstrom, written.positions_angstrom, atol=0.02)
        assert set(found.tomograms) == {"T1"}


def test_wrong_input_is_told(tomogram, tmp_path, program):
    path, labels = tomogram
    out = tmp_path / "x.model"

    def refused(*arguments):
        code, _, errors = program(*arguments)
        assert code == 2, arguments
        return errors

    assert "Nothing to train on" in refused("pick", "train", path, "--output", out)
    assert "Give --diameter" in refused("pick", "train", path, "--labels", labels, "--output", out)
    assert "2 diameters were given for 1 classes (ball)" in refused(*command(path, labels, out, "--diameter", "50"))
    assert "either a target with --labels, or --structure" in refused(*command(path, labels, out, "--structure", path))
    far = tmp_path / "far.star"
    write_particles(far, ParticleSet.build("T1", np.full((5, 3), 5000.0)), "relion5")
    assert "5 of 5 labels of T1 lie outside" in refused(*command(path, far, out))
    foreign = tmp_path / "foreign.star"
    write_particles(foreign, ParticleSet.build("OTHER", np.zeros((5, 3))), "relion5")
    assert "None of the tomograms" in refused(*command(path, foreign, out))
    empty = tmp_path / "empty.star"
    write_particles(empty, ParticleSet.empty(), "relion5")
    assert "holds no particle" in refused(*command(path, empty, out))
    assert "is to be held out, but it is no tomogram" in refused(
        *command(path, labels, out, "--held-out-tomogram", "T7")
    )
    assert "none is left to train on" in refused(*command(path, labels, out, "--held-out-tomogram", "T1"))
    assert "voxels of 12 A, and the network needs 8 A" in refused(
        *command(path, labels, out, "--voxel-size-angstrom", "8")
    )
    assert "does not exist" in refused("pick", "apply", path, "--model", out, "--output", tmp_path / "p.star")
    assert "is no model" in refused("pick", "apply", path, "--model", labels, "--output", tmp_path / "p.star")
    assert "Give --output FILE" in refused("pick", "apply", path, "--model", out)
    assert "`--max-fdr` is `3`" in refused("pick", "apply", path, "--max-fdr", "3", "--output", tmp_path / "p.star")


def test_objects_like_an_example_and_clusters(tomogram, tmp_path, program):
    """An untrained network: its vectors are of no use, but the same for the same place."""
    path, _ = tomogram
    net = UNet(UNetParams(width=2, levels=1, out_channels=34))
    initialise(net, 1)
    model = tmp_path / "e.model"
    settings = {
        "voxel_size_angstrom": VOXEL,
        "classes": [{"name": "object", "diameter_angstrom": 100.0}],
        "spot": 0.3,
        "embedding": 32,
        "calibrations": [
            {
                "slope": 3.0,
                "offset": 2.0,
                "cutoff": 0.0,
                "expected_f1": 0.9,
                "true_count": 9,
                "candidates": 9,
            }
        ],
    }
    made = Model(
        purpose="picking", network=net.params, weights=dict(net.state_dict()), settings=settings, provenance={}
    )
    model.write_bytes(model_to_bytes(made))
    common = ["pick", "embed", path, "--model", model]
    code, told, errors = program(*common, "--clusters", "3", "--output", tmp_path / "c" / "all.star", "--json")
    assert code == 0, errors
    result = json.loads(told.splitlines()[-1])
    assert len(result["clusters"]) == 3
    assert sum(result["clusters"].values()) == result["objects"]
    saved = np.load(tmp_path / "c" / "embedding.npz")
    assert saved["vectors"].shape == (result["objects"], 32)
    np.testing.assert_allclose(np.linalg.norm(saved["vectors"], axis=1), 1.0, atol=1e-5)
    place = [str(v) for v in saved["positions_angstrom"][0]]
    like = [*common, "--like", *place, "--min-likeness", "0.99"]
    code, _, errors = program(*like, "--output", tmp_path / "l" / "like.star")
    assert code == 0, errors
    found = read_particles(tmp_path / "l" / "like.star")
    assert found.scores[0] > 0.999
    np.testing.assert_allclose(found.positions_angstrom[0], saved["positions_angstrom"][0], atol=0.01)
    code, _, errors = program(*common, "--like", "9000", "0", "0", "--output", tmp_path / "o" / "o.star")
    assert code == 2
    assert "1 of" in errors
    assert "outside of the tomogram" in errors
    code, _, errors = program(
        *common, "--like", "0", "0", "0", "--tomogram", "T9", "--output", tmp_path / "o" / "o.star"
    )
    assert code == 2
    assert "No tomogram is called T9" in errors


@pytest.mark.slow
def test_training_on_a_structure_needs_no_label(tmp_path, program):
    """A made-up structure, two steps: what it learns is measured elsewhere."""
    rng = np.random.default_rng(1)
    pdb = tmp_path / "thing.pdb"
    lines = [
        f"ATOM  {n + 1:5d}  CA  ALA A{n % 999 + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        for n, (x, y, z) in enumerate(rng.normal(scale=30.0, size=(2000, 3)))
    ]
    pdb.write_text("\n".join(lines) + "\nEND\n")
    model = tmp_path / "thing.model"
    code, told, errors = program(
        "pick", "train", "--structure", pdb, "--output", model, *SMALL, "--steps", "2", "--json"
    )
    assert code == 0, errors
    made = json.loads(told.splitlines()[-1])
    assert made["classes"] == ["thing"]
    about = json.loads((tmp_path / "thing.model.json").read_text())
    # a Gaussian of 30 A has a radius of gyration of 52 A: a ball of 134 A
    assert about["settings"]["classes"][0]["diameter_angstrom"] == pytest.approx(134.0, rel=0.03)
    assert torch.isfinite(torch.tensor(about["losses"])).all()
