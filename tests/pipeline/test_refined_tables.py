"""The ways on from a refined table: a specimen that deforms, images that show it unequally, and results made anew when it changes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from eucentric.averaging.params import ExtractParams
from eucentric.geometry import Deformation, TiltGeometry, VolumeWarp
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.relion_particles import write_relion_particles
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.models import ParticleSet, Tilt, TiltPose, TiltSeries
from eucentric.pipeline.extract_series import open_particles
from eucentric.pipeline.refine_state import write_refined_series
from eucentric.pipeline.series_tables import table_of_list
from eucentric.simulation import asymmetric_phantom

PIXEL, SHAPE, BOX = 8.0, (88, 96), 24
PHANTOM = asymmetric_phantom(80.0)
ANGLES = np.arange(-60.0, 61.0, 6.0)
PLACES = np.array([[60.0, -90.0, 150.0], [-110.0, 80.0, -150.0]])
BAD = 7
"""Number of an image that shows something else."""
VOLUME = VolumeWarp.build(
    # above the middle the specimen drifts one way, below the other, and stays at mid-height
    [[[[[0.0, 0, 0]]], [[[0.0, 0, 0]]]], [[[[-30.0, 20, 0]]], [[[30.0, -20, 0]]]]],
    [0.0, 60.0],
    (300.0, 700.0, 700.0),
)
ANY = ("--no-ctf", "--no-dose-weighting", "--tilt-weights", "none", "--device", "cpu")


def _tilts():
    return [
        Tilt(
            nominal_tilt_deg=float(a),
            acquisition=i,
            dose=3.0,
            pre_exposure=3.0 * i,
            image=f"images/{i}.mrc",
            pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=12.0, x_shift_angstrom=9.0, y_shift_angstrom=-5.0),
        )
        for i, a in enumerate(ANGLES)
    ]


@pytest.fixture
def project(tmp_path):
    """`ctf`, where nothing is known of the deformation, and `refine/all`, where it is and one image has no signal."""
    root = tmp_path / "project"
    (root / "images").mkdir(parents=True)
    (root / "eucentric.toml").write_text("")
    series = TiltSeries(name="TS_01", pixel_size_angstrom=PIXEL, image_shape=SHAPE, tilts=tuple(_tilts())).replace(
        thickness_angstrom=500.0
    )
    moved = VOLUME.along(PLACES, series.middle_doses)
    for i, tilt in enumerate(series.tilts):
        geometry = TiltGeometry.from_poses([tilt.pose])
        image = sum(
            PHANTOM.transformed(np.eye(3), p + m).project(geometry, SHAPE, PIXEL)[0]
            for p, m in zip(PLACES, moved[i], strict=True)
        )
        if i == BAD:
            image = 4.0 * torch.flip(image, (0,))
        write_mrc(root / str(tilt.image), (500.0 - image).numpy(), PIXEL, "float32", is_volume=False)
    write_tilt_series_set(root / "ctf" / "tilt_series.star", [series], root)
    refined = series.with_tilts([replace(t, signal_scale=float(i != BAD)) for i, t in enumerate(series.tilts)])
    write_refined_series(root / "refine" / "all", [refined], {"TS_01": Deformation(volume=VOLUME)}, root)
    (root / "refine" / "all" / "refine.json").write_text("{}")
    for folder in ("pick/blobs", "refine/all/blobs"):
        (root / folder).mkdir(parents=True)
        write_relion_particles(
            root / folder / "particles.star",
            ParticleSet.build("TS_01", PLACES, rotations=np.stack([np.eye(3)] * 2)),
        )
    return root


def _likeness(volume, place):
    """Correlation of a box about a place with the phantom, dark."""
    truth = -PHANTOM.volume((BOX,) * 3, PIXEL).numpy()
    z, y, x = (round(c / PIXEL) + n // 2 - BOX // 2 for c, n in zip(place[::-1], volume.shape, strict=True))
    return float(np.corrcoef(volume[z : z + BOX, y : y + BOX, x : x + BOX].ravel(), truth.ravel())[0, 1])


def _made_otherwise(root, change):
    """Write the refined series once more, changed, as a further refinement does."""
    table = root / "refine" / "all" / "tilt_series.star"
    series = read_tilt_series(table, "TS_01", root)
    changed, deformation = change(series)
    write_refined_series(root / "refine" / "all", [changed], {"TS_01": deformation}, root)


def _drifting(series):
    further = replace(VOLUME, displacement_angstrom=VOLUME.displacement_angstrom + np.array([12.0, 0.0, 0.0]))
    return series, Deformation(volume=further)


def _shifted(series):
    tilts = [replace(t, pose=replace(t.pose, x_shift_angstrom=20.0)) for t in series.tilts]
    return series.with_tilts(tilts), Deformation(volume=VOLUME)


def test_boxes_follow_the_specimen_and_pass_over_what_shows_nothing(program, project, tmp_path):
    """Folded at mid-height, where it stays, the deformation would be none, as in the table of `ctf`."""
    likeness = {}
    for stage in ("ctf", "refine/all"):
        table = project / stage / "tilt_series.star"
        words = ("--positions", project / "pick/blobs/particles.star", "--box-size", BOX, "--output", tmp_path / stage)
        code, _, err = program("boxes", table, *words, "--no-ctf")
        assert code == 0, err
        boxes = [read_mrc(tmp_path / stage / f"TS_01_000{i}.mrc")[0] for i in (1, 2)]
        likeness[stage] = [_likeness(b, np.zeros(3)) for b in boxes]
    # a wedge of 60 degrees is missing
    assert min(likeness["refine/all"]) > 0.75
    assert max(likeness["ctf"]) < min(likeness["refine/all"]) - 0.15


def test_tomograms_go_without_images_of_no_signal_and_tell_what_they_fold(program, project):
    table = project / "refine" / "all" / "tilt_series.star"
    words = ("--method", "wbp", "--pixel-size-angstrom", PIXEL, "--no-half-volumes", "--device", "cpu", "--auto-level")
    volumes = []
    for number in (1, 2):
        assert program("reconstruct", table, "--output", f"reconstruct_{number}", *words)[0] == 0
        volumes.append(read_mrc(project / f"reconstruct_{number}" / "tomograms" / "TS_01.mrc")[0].astype(np.float32))
        image = read_mrc(project / "images" / f"{BAD}.mrc")[0]
        write_mrc(project / "images" / f"{BAD}.mrc", image[0, ::-1, ::-1].copy(), PIXEL, "float32", is_volume=False)
    assert np.ptp(volumes[0]) > 0
    np.testing.assert_array_equal(*volumes)
    told = json.loads((project / "reconstruct_1" / "records" / "TS_01.json").read_text())["caveats"]
    assert "mid-height" in told[0]
    assert "A rms off" in told[0]
    assert "not levelled" in told[1]
    assert program("reconstruct", table, "--output", "reconstruct_3", *words, "--no-dose-weighting")[0] == 0
    other = read_mrc(project / "reconstruct_3" / "tomograms" / "TS_01.mrc")[0]
    assert np.abs(other - volumes[0]).std() > 0.1 * volumes[0].std()


@pytest.mark.parametrize("change", [_drifting, _shifted])
def test_what_was_made_of_a_table_that_changed_is_made_anew(program, project, tmp_path, change):
    """The global table names the same files afterwards; what they hold is another geometry."""
    table = project / "refine" / "all" / "tilt_series.star"
    extract = (
        "extract",
        project / "refine/all/blobs/particles.star",
        "--output",
        tmp_path / "x",
        "--box-size",
        BOX,
        *ANY,
    )
    size = ("--method", "wbp", "--pixel-size-angstrom", 2.0 * PIXEL, "--no-half-volumes", "--device", "cpu")
    reconstruct = ("reconstruct", table, "--output", "reconstruct_refined", *size)
    for words in (extract, reconstruct):
        assert program(*words)[0] == 0
    tomogram = project / "reconstruct_refined" / "tomograms" / "TS_01.mrc"
    before = read_mrc(tomogram)[0].copy()
    assert "Kept" in program(*extract)[1]
    _made_otherwise(project, change)
    code, _, err = program(*extract)
    assert (code, "exists already" in err) == (2, True)
    assert program(*reconstruct)[0] == 0
    assert (before != read_mrc(tomogram)[0]).any()


def test_lists_go_with_the_series_that_they_were_made_from(project):
    """A refinement's own, those of tomograms that lie otherwise than `ctf`, and `ctf` where they lie alike."""
    opened = open_particles(
        project / "refine/all/blobs/particles.star", ExtractParams(box_size=BOX, ctf=False), device=torch.device("cpu")
    )
    assert opened.table == project / "refine" / "all" / "tilt_series.star"
    picks = project / "pick" / "blobs" / "particles.star"
    assert table_of_list(picks) == project / "ctf" / "tilt_series.star"
    lying = read_tilt_series(project / "ctf" / "tilt_series.star", "TS_01", project)
    turned = [replace(t, pose=replace(t.pose, y_tilt_deg=t.pose.y_tilt_deg + 4.0)) for t in lying.tilts]
    refined = read_tilt_series(project / "refine" / "all" / "tilt_series.star", "TS_01", project)
    level = lying.with_tilts(turned)
    for name, series, source in (
        ("reconstruct", lying, "ctf"),
        ("reconstruct_level", level, "ctf"),
        ("reconstruct_refined", refined, "refine/all/tilt_series.star"),
        ("denoise_refined", refined, "reconstruct_refined/tilt_series.star"),
        ("denoise_level", level, "reconstruct_level"),
    ):
        write_tilt_series_set(project / name / "tilt_series.star", [series], project)
        (project / name / "run.json").write_text(json.dumps({"source": source}))
    run = picks.with_name("run.json")
    for source, table in (
        ("reconstruct", "ctf"),
        ("reconstruct/tilt_series.star", "ctf"),
        ("reconstruct_level/tilt_series.star", "reconstruct_level"),
        ("denoise_level", "reconstruct_level"),
        ("refine/all/tilt_series.star", "refine/all"),
        ("denoise_refined/tilt_series.star", "refine/all"),
        ("gone/tilt_series.star", "ctf"),
    ):
        run.write_text(json.dumps({"source": source}))
        assert table_of_list(picks) == project / table / "tilt_series.star", source
    run.write_text("[1]")
    assert table_of_list(picks) == project / "ctf" / "tilt_series.star"
