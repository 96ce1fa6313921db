"""Projects of copick: names and layout as copick's own source has them, Zarr of format 2, and what is read back."""

import json
import re

import numpy as np
import pytest
import zarr

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.geometry import Rotation
from eucentric.io.copick_project import (
    CopickObject,
    CopickTomogramWriter,
    copick_name,
    read_copick_project,
    write_copick_config,
    write_copick_picks,
    write_copick_segmentation,
)
from eucentric.io.ome_zarr import read_ome_zarr_header
from eucentric.models import ParticleSet
from eucentric.models.tomogram_frames import TomogramFrame, TomogramFrames

SHAPE = (21, 150, 131)  # more than one chunk, odd
FRAMES = TomogramFrames(default=TomogramFrame(voxel_size_angstrom=10.0, size_xyz=(131, 150, 21)))
OBJECTS = [
    CopickObject(name="Ribosome 70S", label=1, radius_angstrom=120.0, pdb_id="4V4R"),
    CopickObject(name="membrane", label=2, is_particle=False, color=(1, 2, 3, 255)),
]


def volume():
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


def labels():
    out = np.zeros(SHAPE, np.int32)
    out[3:9, 20:140, 5:60] = 2
    out[12:, :30, 90:] = 1
    return out


def particles():
    return ParticleSet.build(
        ["TS_01", "TS_01", "TS_02"],
        [[100.0, -200, 55], [0, 0, 0], [8, 16, -24]],
        rotations=Rotation.from_relion([20.0, 5, 77], [35.0, 90, 144], [-110.0, 0, 178]).matrices,
        scores=[0.5, 0.25, 0.75],
        kinds=["Ribosome 70S"] * 3,
    )


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    write_copick_config(folder, "test", OBJECTS)
    write_copick_picks(folder, particles(), FRAMES)
    for run in ("TS_01", "TS_02"):
        with CopickTomogramWriter(folder, run, SHAPE, 10.0) as writer:
            for start in range(0, SHAPE[0], 4):
                writer.write(volume()[start : start + 4])
    write_copick_segmentation(folder, "TS_01", labels(), 10.0, "all parts", multilabel=True)
    write_copick_segmentation(folder, "TS_01", (labels() == 2).astype(np.uint8), 10.0, "membrane")
    return folder


def test_the_layout_is_that_of_copicks_source(project):
    """impl/filesystem.py: VoxelSpacing{:.3f}/{kind}.zarr, Picks/{user}_{session}_{object}.json; segmentation_store_name."""
    runs = project / "ExperimentRuns"
    assert sorted(p.name for p in runs.iterdir()) == ["TS_01", "TS_02"]
    assert (runs / "TS_01/VoxelSpacing10.000/wbp.zarr/0").is_dir()
    assert (runs / "TS_01/Picks/eucentric_0_Ribosome-70S.json").is_file()
    stores = sorted(p.name for p in (runs / "TS_01/Segmentations").iterdir())
    assert stores == ["10.000_eucentric_0_all-parts-multilabel.zarr", "10.000_eucentric_0_membrane.zarr"]
    config = json.loads((project / "copick_config.json").read_text())
    assert config["config_type"] == "filesystem"
    assert config["overlay_root"] == f"local://{project.resolve()}"
    names = [o["name"] for o in config["pickable_objects"]]
    assert not any(re.search(r'[<>:"/\\|?*\x00-\x1F\x7F\s_]', name) for name in names)  # util/escape.py
    assert config["pickable_objects"][0]["radius"] == 120.0
    assert all(len(o["color"]) == 4 and o["label"] > 0 for o in config["pickable_objects"])
    picks = json.loads((runs / "TS_01/Picks/eucentric_0_Ribosome-70S.json").read_text())
    assert picks["pickable_object_name"] == names[0]
    assert picks["points"][0]["location"] == pytest.approx(
        {"x": 65 * 10 + 100.0, "y": 75 * 10 - 200.0, "z": 10 * 10 + 55.0}
    )


def test_volumes_are_zarr_of_format_2_with_their_pyramid(project):
    place = project / "ExperimentRuns/TS_01/VoxelSpacing10.000/wbp.zarr"
    assert json.loads((place / ".zgroup").read_text())["zarr_format"] == 2
    about = json.loads((place / "0/.zarray").read_text())
    assert (about["zarr_format"], about["dimension_separator"]) == (2, "/")
    assert (place / "0/0/1/0").is_file()
    group = zarr.open_group(place, mode="r")
    np.testing.assert_array_equal(group["0"][:], volume())
    fine = volume()
    block = fine[2:4, 4:6, 6:8].mean()
    assert group["1"][1, 2, 3] == pytest.approx(block, abs=1e-6)
    image = group.attrs["multiscales"][0]
    assert image["version"] == "0.4"
    scales = [d["coordinateTransformations"][0]["scale"] for d in image["datasets"]]
    assert scales == [[10.0] * 3, [20.0] * 3]
    header = read_ome_zarr_header(place)
    assert header.shape == SHAPE
    assert header.voxel_size_angstrom == (10.0, 10.0, 10.0)


def test_segmentations_keep_every_label(project):
    folder = project / "ExperimentRuns/TS_01/Segmentations"
    several = zarr.open_group(folder / "10.000_eucentric_0_all-parts-multilabel.zarr", mode="r")
    np.testing.assert_array_equal(several["0"][:], labels())
    np.testing.assert_array_equal(several["1"][:], labels()[::2, ::2, ::2])
    assert several["0"].dtype == np.uint8
    one = zarr.open_group(folder / "10.000_eucentric_0_membrane.zarr", mode="r")
    assert set(np.unique(one["0"][:])) == {0, 1}


def test_a_project_is_read_back(project, tmp_path):
    found = read_copick_project(project)
    assert [(o.name, o.label, o.is_particle) for o in found.objects] == [
        ("Ribosome-70S", 1, True),
        ("membrane", 2, False),
    ]
    assert found.objects[1].color == (1, 2, 3, 255)
    first, second = found.runs
    assert (first.name, second.name) == ("TS_01", "TS_02")
    assert [(t.name, t.voxel_size_angstrom) for t in first.tomograms] == [("wbp", 10.0)]
    assert [(s.name, s.multilabel) for s in first.segmentations] == [("all-parts", True), ("membrane", False)]
    assert [(p.user, p.session, p.object_name) for p in first.picks] == [("eucentric", "0", "Ribosome-70S")]
    assert found.frames().of("TS_01").size_xyz == (131, 150, 21)
    back = found.particles()
    np.testing.assert_allclose(back.positions_angstrom, particles().positions_angstrom, atol=1e-9)
    np.testing.assert_allclose(back.rotations, particles().rotations, atol=1e-9)
    assert back.tomograms.tolist() == particles().tomograms.tolist()
    moved = tmp_path / "elsewhere"
    project.rename(moved)
    assert len(read_copick_project(moved).runs) == 2


def test_a_project_of_two_places_is_one(project, tmp_path):
    """Static data and an overlay, as copick's own configurations have them."""
    overlay = tmp_path / "overlay"
    write_copick_picks(overlay, particles().with_kinds("proteasome"), FRAMES, user="alice", session="3")
    config = json.loads((project / "copick_config.json").read_text())
    config |= {"overlay_root": f"local://{overlay}", "static_root": f"local://{project}"}
    (tmp_path / "both.json").write_text(json.dumps(config))
    found = read_copick_project(tmp_path)
    assert [(p.user, p.session, p.object_name) for p in found.runs[0].picks] == [
        ("alice", "3", "proteasome"),
        ("eucentric", "0", "Ribosome-70S"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a configuration"),
        ("[]", "not a configuration"),
        ('{"pickable_objects": [1]}', "not a configuration"),
        ('{"pickable_objects": [{"name": "a", "is_particle": true, "label": 1e999}]}', "not a configuration"),
        ('{"pickable_objects": [{"name": "a", "is_particle": true, "color": [1]}]}', "not a configuration"),
        ('{"pickable_objects": [], "overlay_root": "s3://bucket/x"}', "does not lie on this machine"),
        ('{"pickable_objects": [], "overlay_root": "local:///nowhere/at/all"}', "does not lie on this machine"),
    ],
)
def test_damaged_configurations_are_refused_in_words(tmp_path, text, words):
    (tmp_path / "copick_config.json").write_text(text)
    with pytest.raises((FormatError, InputError), match=words):
        read_copick_project(tmp_path)


def test_what_copick_cannot_hold_is_refused(tmp_path):
    assert copick_name(" a_b c/") == "a-b-c"
    with pytest.raises(InputError, match="labels from 1"):
        write_copick_config(tmp_path, "x", [CopickObject(name="a b", label=1), CopickObject(name="a_b", label=2)])
    with pytest.raises(InputError, match="labels from 1"):
        write_copick_config(tmp_path, "x", [CopickObject(name="a", label=0)])
    with pytest.raises(InputError, match="colour"):
        write_copick_config(tmp_path, "x", [CopickObject(name="a", label=1, color=(0, 0, 0, 256))])
    with pytest.raises(InputError, match="both"):
        write_copick_picks(tmp_path, particles().with_kinds(["a b", "a_b", "c"]), FRAMES)
    with pytest.raises(InputError, match="kind of a tomogram"):
        CopickTomogramWriter(tmp_path, "TS_01", SHAPE, 10.0, "a_b")
    with pytest.raises(InputError, match="name of a run"):
        CopickTomogramWriter(tmp_path, "../TS_01", SHAPE, 10.0)
    with pytest.raises(InputError, match="from 0 to 2"):
        write_copick_segmentation(tmp_path, "TS_01", labels(), 10.0, "x")
    with pytest.raises(InputError, match="from -1"):
        write_copick_segmentation(tmp_path, "TS_01", labels() - 1, 10.0, "x", multilabel=True)
    with pytest.raises(ShapeError):
        write_copick_segmentation(tmp_path, "TS_01", labels()[0], 10.0, "x")


def test_a_tomogram_that_was_not_finished_is_not_there(tmp_path):
    with pytest.raises(ShapeError), CopickTomogramWriter(tmp_path, "TS_01", SHAPE, 10.0) as writer:
        writer.write(volume()[:5])
    assert not list((tmp_path / "ExperimentRuns/TS_01/VoxelSpacing10.000").iterdir())


@pytest.mark.parametrize("change", ["NaN", "1e999", "1e300", "0", "-1"])
def test_rotations_that_cannot_be_are_refused_at_once(project, change):
    """The singular values of a matrix with NaN are never found."""
    file = project / "ExperimentRuns/TS_02/Picks/eucentric_0_Ribosome-70S.json"
    document = json.loads(file.read_text())
    document["points"][0]["transformation_"] = [[0.0] * 4] * 3 + [[0, 0, 0, 1]]
    file.write_text(json.dumps(document).replace("[0.0,", f"[{change},"))
    with pytest.raises(FormatError, match="transformation"):
        read_copick_project(project).particles(FRAMES)
