"""`eucentric segment train` and `apply` on files: labels of every kind, what is written, and what is refused."""

import csv
import json

import numpy as np
import pytest
import torch

from eucentric.cli.main import run
from eucentric.errors import InputError, ShapeError
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.networks.model_file import Model, model_from_bytes, model_to_bytes
from eucentric.networks.params import UNetParams
from eucentric.networks.unet import UNet
from eucentric.pipeline.apply_segmenter_files import read_segmenter
from eucentric.pipeline.blob_files import TomogramFile
from eucentric.pipeline.given_labels import class_numbers, labelled_slices, pair_labels
from eucentric.pipeline.label_files import write_labels
from eucentric.pipeline.train_segmenter_files import LabelsGiven, train_segmenter_files
from eucentric.segmentation.learned.params import SegmenterParams
from eucentric.segmentation.learned.segmenter import PURPOSE

CPU = torch.device("cpu")
VOXEL = 10.0
SHAPE = (20, 32, 40)
SECTIONS = (5, 10, 15)
SMALL = SegmenterParams(
    steps=2, width=4, levels=1, patch_size=16, batch_size=1, checkpoint_steps=1, voxel_size_angstrom=VOXEL
)
SMALL_OPTIONS = ["--steps", "2", "--width", "4", "--levels", "1", "--patch-size", "16", "--batch-size", "1"]
SMALL_OPTIONS += ["--voxel-size-angstrom", "10"]


def truth() -> np.ndarray:
    """(z, y, x): a bar (3) at low x and a block (5) at high y."""
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[2:18, 4:28, 8:13] = 3
    labels[4:17, 16:30, 24:36] = 5
    return labels


def volume(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(SHAPE) - 2.0 * (truth() == 3) - 1.0 * (truth() == 5)).astype(np.float32)


def sparse() -> np.ndarray:
    labels = np.zeros(SHAPE, dtype=np.int32)
    labels[list(SECTIONS)] = truth()[list(SECTIONS)]
    return labels


@pytest.fixture
def tomogram(tmp_path):
    path = tmp_path / "TS_01.mrc"
    write_mrc(path, volume(), VOXEL)
    return path


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "TS_01_labels.mrc"
    write_labels(path, sparse(), VOXEL)
    return path


def bright_model(path, *, classes=("dark", "darker"), channels=2, purpose=PURPOSE):
    """A model of what is dark, and of what is darker."""
    network = UNet(UNetParams(out_channels=channels, width=2, levels=1, normalise=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.down[0][0].weight[0, 0, 1, 1, 1] = -1.0
        network.down[0][2].weight[0, 0, 1, 1, 1] = 1.0
        network.head.weight[:, 0] = 4.0
        network.head.bias[:] = torch.tensor([-2.0, -5.0])[:channels]
    settings = {
        "classes": list(classes),
        "profile": False,
        "voxel_size_angstrom": VOXEL,
        "thresholds": [0.5, 0.6][:channels],
    }
    model = Model(
        purpose=purpose, network=network.params, weights=network.state_dict(), settings=settings, provenance={}
    )
    path.write_bytes(model_to_bytes(model))
    return path


def told(capsys) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_train_and_apply_from_the_command_line(tmp_path, tomogram, labels, capsys):
    model = tmp_path / "cell.model"
    line = [
        "segment",
        "train",
        str(tomogram),
        "--labels",
        str(labels),
        "--classes",
        "bar",
        "block",
        "--output",
        str(model),
    ]
    assert run([*line, *SMALL_OPTIONS, "--json"]) == 0
    made = told(capsys)
    assert [(c["number"], c["name"]) for c in made["classes"]] == [(1, "bar"), (2, "block")]
    assert made["patch_size"] == 16
    assert made["network"]["levels"] == 1
    stored = model_from_bytes(model.read_bytes(), "model", purpose=PURPOSE)
    assert stored.settings["classes"] == ["bar", "block"]
    assert stored.settings["thresholds"] == pytest.approx([c["threshold"] for c in made["classes"]])
    assert json.loads((tmp_path / "cell.model.json").read_text())["settings"] == stored.settings
    assert (tmp_path / "cell.model.png").stat().st_size > 1000
    assert not (tmp_path / "cell.model.training").exists()
    assert run([*line, *SMALL_OPTIONS]) == 2  # it is there already
    assert "--overwrite" in capsys.readouterr().err
    out = tmp_path / "found.mrc"
    assert (
        run(
            ["segment", "apply", str(tomogram), "--model", str(model), "--output", str(out), "--mirrors", "1", "--json"]
        )
        == 0
    )
    assert told(capsys)["classes"] == {"1": "bar", "2": "block"}
    found, header = read_mrc(out)
    write_labels(tmp_path / "truth.mrc", truth(), VOXEL)
    line = [
        "segment",
        "apply",
        str(tomogram),
        "--model",
        str(model),
        "--output",
        str(out),
        "--mirrors",
        "1",
        "--overwrite",
    ]
    assert run([*line, "--truth", str(tmp_path / "truth.mrc"), "--json"]) == 0
    rest = np.ones(SHAPE, dtype=bool)
    rest[list(SECTIONS)] = False
    for name, number, own in (("bar", 1, 3), ("block", 2, 5)):
        mask, true = (found == number) & rest, (truth() == own) & rest
        expected = 2 * (mask & true).sum() / (mask.sum() + true.sum())
        if name == "bar":
            values = told(capsys)
        assert values["dice"]["TS_01"][name] == pytest.approx(expected)
    assert (found.shape, header.mode, header.pixel_size_angstrom) == (SHAPE, 1, VOXEL)


def test_apply_tells_classes_instances_and_protects(tmp_path, tomogram, capsys):
    model = bright_model(tmp_path / "dark.model")
    guard = np.zeros(SHAPE, dtype=np.int8)
    guard[:, :, 20:] = 1
    write_mrc(tmp_path / "guard.mrc", guard, VOXEL, "int8")
    line = [
        "segment",
        "apply",
        str(tomogram),
        "--model",
        str(model),
        "--protect",
        str(tmp_path / "guard.mrc"),
        "--mirrors",
        "1",
    ]
    assert run([*line, "--output", str(tmp_path / "classes"), "--scores", "--json"]) == 0
    values = told(capsys)
    found = np.asarray(read_mrc(tmp_path / "classes" / "labels" / "TS_01.mrc")[0])
    assert set(np.unique(found)) <= {0, 1, 2}
    assert not found[:, :, 20:].any()
    places = [tmp_path / "classes" / "scores" / f"TS_01_{name}.mrc" for name in ("dark", "darker")]
    scores = np.stack([np.asarray(read_mrc(path)[0], dtype=np.float64) for path in places]).clip(1e-4, 1 - 1e-4)
    cuts = np.array([0.5, 0.6])[:, None, None, None]
    above = np.log(scores / (1 - scores)) - np.log(cuts / (1 - cuts))  # log odds above the thresholds decide
    sure = (np.abs(above).min(0) > 0.05) & (scores.max(0) < 0.99) & (guard == 0)
    expected = np.where(above.max(0) > 0, 1 + above.argmax(0), 0)
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert {0, 1} <= set(found[sure].tolist())
    with (tmp_path / "classes" / "classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["class"], r["label"], int(r["voxels"])) for r in rows] == [
        ("dark", "1", int((found == 1).sum())),
        ("darker", "2", int((found == 2).sum())),
    ]
    assert values["tomograms"]["TS_01"]["voxels"] == {
        "dark": int((found == 1).sum()),
        "darker": int((found == 2).sum()),
    }
    options = ["--instances", "--min-volume-angstrom3", "50000", "--threshold", "0.5", "0.9999"]
    assert run([*line, "--output", str(tmp_path / "pieces.mrc"), *options, "--json"]) == 0
    capsys.readouterr()
    pieces = np.asarray(read_mrc(tmp_path / "pieces.mrc")[0])
    with (tmp_path / "pieces_objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == pieces.max() >= 1
    assert rows[0]["class"] == "dark"
    sizes = np.bincount(pieces.ravel())[1:]
    assert sizes.min() >= 50
    np.testing.assert_allclose([float(r["volume_angstrom3"]) for r in rows], sizes * 1000.0, rtol=1e-3)
    middle = (np.argwhere(pieces == 1).mean(0) - np.array(SHAPE) // 2)[::-1] * VOXEL
    np.testing.assert_allclose([float(rows[0][f"centre_{a}_angstrom"]) for a in "xyz"], middle, atol=0.01)


def train(tmp_path, tomogram, labels, params=SMALL, *, output="out.model", **more):
    given = more.pop("given", LabelsGiven(files=[labels] if not isinstance(labels, list) else labels))
    targets = tomogram if isinstance(tomogram, list) else [tomogram]
    return train_segmenter_files(targets, given, tmp_path / output, params, device=CPU, **more)


@pytest.mark.parametrize("kind", ["TS_01.tif", "TS_01.zarr", "TS_01.mod"])
def test_labels_of_every_format_train_the_same(tmp_path, tomogram, labels, kind):
    other = tmp_path / "others" / kind
    other.parent.mkdir()
    write_labels(other, sparse(), VOXEL)
    first = train(tmp_path, tomogram, labels)
    # numbers of contours are those of objects, which are named after the labels
    second = train(tmp_path, tomogram, other, output="second.model")
    one, two = (read_segmenter(str(m.model)) for m in (first, second))
    assert one.settings == two.settings
    for name, value in one.weights.items():
        assert torch.equal(value, two.weights[name]), name


def test_a_stopped_training_goes_on_and_ends_alike(tmp_path, tomogram, labels):
    params = SMALL.replace(steps=4)
    whole = train(tmp_path, tomogram, labels, params)

    def stop(done, total, loss):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tomogram, labels, params, output="again.model", on_step=stop)
    assert (tmp_path / "again.model.training").is_file()
    steps = []
    again = train(tmp_path, tomogram, labels, params, output="again.model", on_step=lambda done, *_: steps.append(done))
    assert steps == [3, 4]
    assert not (tmp_path / "again.model.training").exists()
    one, two = (read_segmenter(str(m.model)).weights for m in (whole, again))
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_one_slice_is_enough_and_is_told(tmp_path, tomogram, labels):
    only = np.zeros(SHAPE, dtype=np.int32)
    only[10] = truth()[10]
    write_labels(tmp_path / "one.mrc", only, VOXEL)
    made = train(tmp_path, tomogram, tmp_path / "one.mrc")
    assert made.held_out == "one end of each labelled slice"
    assert any("Only one slice is labelled" in caveat for caveat in made.caveats)
    assert all(q.dice is not None for q in made.qualities)
    write_labels(tmp_path / "empty.mrc", np.zeros(SHAPE, dtype=np.int32), VOXEL)
    with pytest.raises(InputError, match="0 everywhere"):
        train(tmp_path, tomogram, tmp_path / "empty.mrc", output="none.model")


def test_classes_ignored_numbers_and_tomograms_held_out(tmp_path, tomogram, labels):
    write_mrc(tmp_path / "TS_02.mrc", volume(1), VOXEL)
    marked = truth()
    marked[:, :, 36:] = 255
    folder = tmp_path / "painted"
    folder.mkdir()
    write_labels(folder / "TS_01.mrc", sparse(), VOXEL)
    write_labels(folder / "TS_02.mrc", marked, VOXEL)
    given = LabelsGiven(files=[folder], classes=["both=3,5"], ignore=255)
    made = train(tmp_path, [tomogram, tmp_path / "TS_02.mrc"], [], given=given, held_out=["TS_02"])
    (quality,) = made.qualities
    assert (quality.name, made.held_out) == ("both", "the labels of TS_02")
    # all slices of TS_02 that hold a label, but for what is not known
    assert quality.voxels == int((truth()[:, :, :36] > 0).sum())
    with pytest.raises(InputError, match="All tomograms are held out"):
        train(
            tmp_path, [tomogram, tmp_path / "TS_02.mrc"], [], given=given, held_out=["TS_01", "TS_02"], output="x.model"
        )


def test_a_model_to_start_from_gives_its_shape(tmp_path, tomogram, labels):
    start = bright_model(tmp_path / "dark.model")
    given = LabelsGiven(files=[labels], classes=["darker", "block"])
    params = SMALL.replace(levels=None, steps=1, learning_rate=1e-9)
    made = train(tmp_path, tomogram, labels, params, given=given, start=str(start))
    first, second = read_segmenter(str(start)), read_segmenter(str(made.model))
    assert second.network == first.network
    torch.testing.assert_close(second.weights["head.weight"][0], first.weights["head.weight"][1], atol=1e-3, rtol=1e-3)


def test_labels_that_do_not_fit_are_refused(tmp_path, tomogram, labels):
    write_labels(tmp_path / "small.mrc", sparse()[:, :-1], VOXEL)
    with pytest.raises(ShapeError, match="same"):
        train(tmp_path, tomogram, tmp_path / "small.mrc")
    full = np.full(SHAPE, 1, dtype=np.int32)
    write_labels(tmp_path / "full.mrc", full, VOXEL)
    with pytest.raises(InputError, match="nothing to tell apart"):
        train(tmp_path, tomogram, tmp_path / "full.mrc")
    given = LabelsGiven(files=[tmp_path / "full.mrc"], complete=True)
    with pytest.raises(InputError, match="nothing to tell apart"):
        train(tmp_path, tomogram, [], given=given)
    given = LabelsGiven(files=[tmp_path / "full.mrc"], complete=True, ignore=1)
    with pytest.raises(InputError, match="nothing to learn"):
        train(tmp_path, tomogram, [], given=given)
    given = LabelsGiven(files=[labels], slices=["z=0"])
    with pytest.raises(InputError, match="No label of class 3 lies in a labelled slice"):
        train(tmp_path, tomogram, [], given=given)
    with pytest.raises(InputError, match="does not exist"):
        train(tmp_path, tomogram, tmp_path / "nothing.mrc")
    assert not (tmp_path / "out.model").exists()


def test_tomograms_without_contrast_or_voxel_size_are_refused(tmp_path, labels, capsys):
    flat = tmp_path / "TS_01.mrc"
    write_mrc(flat, np.ones(SHAPE, dtype=np.float32), VOXEL)
    with pytest.raises(InputError, match="TS_01: The tomogram is constant"):
        train(tmp_path, flat, labels)
    model = bright_model(tmp_path / "dark.model")
    line = ["segment", "apply", str(flat), "--model", str(model), "--output", str(tmp_path / "found.mrc")]
    assert run(line) == 2
    assert "constant" in capsys.readouterr().err
    write_mrc(flat, volume(), VOXEL)
    raw = bytearray(flat.read_bytes())
    raw[40:52] = bytes(12)  # cell dimensions
    flat.write_bytes(raw)
    with pytest.raises(InputError, match="--pixel-size"):
        train(tmp_path, flat, labels)
    assert run(line) == 2
    assert "--pixel-size" in capsys.readouterr().err
    made = train(tmp_path, flat, labels, pixel_size=VOXEL)
    assert made.plan.voxel_size_angstrom == VOXEL
    assert run([*line, "--pixel-size", "10", "--mirrors", "1"]) == 0
    assert read_mrc(tmp_path / "found.mrc")[1].pixel_size_angstrom == VOXEL


def test_models_for_something_else_are_refused(tmp_path, tomogram, labels, capsys):
    other = bright_model(tmp_path / "pick.model", purpose="picking")
    for line in (
        ["segment", "apply", str(tomogram), "--model", str(other), "--output", str(tmp_path / "found.mrc")],
        [
            "segment",
            "train",
            str(tomogram),
            "--labels",
            str(labels),
            "--start",
            str(other),
            "--output",
            str(tmp_path / "m.model"),
        ],
    ):
        assert run(line) == 2
        assert "expected one for segmenting tomograms" in capsys.readouterr().err
    wrong = bright_model(tmp_path / "wrong.model", classes=("one",))
    assert run(["segment", "apply", str(tomogram), "--model", str(wrong), "--output", str(tmp_path / "found.mrc")]) == 2
    assert "do not fit" in capsys.readouterr().err
    good = bright_model(tmp_path / "dark.model")
    line = ["segment", "apply", str(tomogram), "--model", str(good), "--output", str(tmp_path / "found.mrc")]
    assert run([*line, "--threshold", "0.2", "0.3", "0.4"]) == 2
    assert "3 thresholds" in capsys.readouterr().err


def test_labels_belong_to_tomograms_by_name_or_order(tmp_path):
    def files(*names):
        for name in names:
            (tmp_path / name).touch()
        return [tmp_path / name for name in names]

    tomograms = [TomogramFile(name=n, path=tmp_path / f"{n}.mrc", specimen=None) for n in ("TS_1", "TS_10")]

    def pairs(labels):
        return [(one.name, file.name) for one, file in pair_labels(tomograms, labels)]

    assert pairs(files("TS_10_labels.tif", "TS_1.mod")) == [("TS_1", "TS_1.mod"), ("TS_10", "TS_10_labels.tif")]
    assert pairs(files("TS_10_labels.tif")) == [("TS_10", "TS_10_labels.tif")]
    assert pairs(files("first.mrc", "second.mrc")) == [("TS_1", "first.mrc"), ("TS_10", "second.mrc")]
    with pytest.raises(InputError, match="none of the tomograms"):
        pairs(files("first.mrc"))
    with pytest.raises(InputError, match="both labels of TS_1"):
        pairs(files("TS_1_a.mrc", "TS_1_b.mrc"))
    with pytest.raises(InputError, match="one name"):
        pair_labels([tomograms[0], tomograms[0]], files("TS_1.mod"))


def test_slices_and_classes_are_read_from_words():
    found = labelled_slices(["z=10,14,20-22", "x=3"])
    assert [(s.axis, s.numbers) for s in found] == [("z", (10, 14, 20, 21, 22)), ("x", (3,))]
    for wrong in ("w=3", "z", "z=", "z=5-3", "z=-1"):
        with pytest.raises(InputError):
            labelled_slices([wrong])
    assert class_numbers([2, 7], []) == (["class 2", "class 7"], [[2], [7]])
    assert class_numbers([2, 7], ["a", "b"]) == (["a", "b"], [[2], [7]])
    assert class_numbers([2, 5, 7], ["b=7", "a=2,5"]) == (["b", "a"], [[7], [2, 5]])
    for wrong, words in ((["a"], "1 classes were named"), (["a=3"], "nothing of a"), (["a=2", "a=7"], "one name")):
        with pytest.raises(InputError, match=words):
            class_numbers([2, 7], wrong)
