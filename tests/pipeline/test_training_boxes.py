"""Training boxes from the command line."""

import json

import numpy as np


def test_boxes_are_written_and_are_those_of_the_dataset(program, tmp_path):
    wanted = ("--boxes", "3", "--box-size", "24", "--vesicles", "0", "--beads", "2")
    field = (
        "--image-size-px",
        "96",
        "96",
        "--particles-per-species",
        "3",
        "--particles-per-species",
        "4",
        "--seed",
        "5",
    )
    code, said, errors = program("simulate", tmp_path / "out", *wanted, *field)
    assert code == 0, errors
    assert "3 boxes" in said
    about = json.loads((tmp_path / "out/boxes/boxes.json").read_text())
    assert about["classes"] == ["nothing", "macromolecule_2600kDa", "macromolecule_900kDa", "bead"]
    with np.load(tmp_path / "out/boxes/box_00002.npz") as box:
        assert box["half1"].shape == box["labels"].shape == (24, 24, 24)
        assert box["wedge"].shape == (24, 24, 13)
        assert np.std(0.5 * (box["half1"].astype(float) + box["half2"])) > 0.9
        assert box["labels"].max() < 4
        first = box["half1"].copy()
    code, _, _ = program("simulate", tmp_path / "again", *wanted, *field)
    with np.load(tmp_path / "again/boxes/box_00002.npz") as box:
        np.testing.assert_array_equal(box["half1"], first)


def test_boxes_that_cannot_be(program, tmp_path):
    code, _, errors = program("simulate", tmp_path / "out", "--boxes", "3", "--box-size", "8")
    assert code == 2
    assert "at least 16" in errors
