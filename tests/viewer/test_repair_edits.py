"""What people set by hand between stages: checked, logged, written, undone; carried when the tomogram is made anew."""

import json

import numpy as np
import pytest
from small_project import NAMES, SHAPE_ZYX, VOXEL_ANGSTROM, make_series

from eucentric.cli import main
from eucentric.errors import FormatError, InputError
from eucentric.io.meshes import read_mesh
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.particles import read_particles
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.io.tracks import read_tracks, read_tracks_by_hand, write_tracks
from eucentric.models.specimen import Specimen
from eucentric.models.tracks import Tracks
from eucentric.pipeline.curation_kinds import edit_of
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.geometry_files import pick_along_filaments, pick_on_surface
from eucentric.pipeline.levelling import SpecimenFindings, level_by
from eucentric.pipeline.particle_files import Grids
from eucentric.pipeline.repair_label_files import label_particles, label_volume_files, read_label_volume
from eucentric.pipeline.repair_level_files import read_faces
from eucentric.pipeline.repair_summary import refresh_repairs
from eucentric.pipeline.stages.reconstruct import Reconstruct
from eucentric.pipeline.train_picker_files import read_labels

SERIES = NAMES[0]


@pytest.fixture
def curation(project):
    return Curation(project, "me")


@pytest.fixture
def do(curation):
    return lambda kind, **values: curation.do(edit_of({"kind": kind, "series": SERIES, **values}))


def level_anew(project):
    """The tomogram of the series made anew, turned and moved; the rotation and shift that carry its places back."""
    series = make_series(project, SERIES)
    specimen = Specimen(thickness_angstrom=200.0, x_tilt_deg=2.0, y_tilt_deg=-7.0, z_angstrom=20.0)
    specimen = Specimen(
        **{f: getattr(specimen, f) for f in ("thickness_angstrom", "x_tilt_deg", "y_tilt_deg", "z_angstrom")},
        pre_tilt_x_sigma_deg=0.1,
        pre_tilt_y_sigma_deg=0.1,
    )
    found = SpecimenFindings(specimen=specimen, slab=None, metrics={}, caveats=())
    after = level_by(series, found, as_told=True)
    others = [make_series(project, name) for name in NAMES[1:]]
    write_tilt_series_set(project / "reconstruct" / "tilt_series.star", [after, *others], project)
    from eucentric.geometry import rotation_x, rotation_y

    return rotation_y(-7.0) @ rotation_x(2.0), np.array([0.0, 0.0, 20.0])


def some_tracks(project):
    """Tracks of three points as the alignment left them."""
    points, tilts = (grid.ravel() for grid in np.meshgrid(np.arange(3), np.arange(5), indexing="ij"))
    places = np.random.default_rng(0).uniform(-200, 200, (15, 2))
    tracks = Tracks.build(points, tilts, places, sigma_angstrom=2.0)
    path = project / "align" / "tracks" / f"{SERIES}.star"
    path.parent.mkdir()
    write_tracks(path, tracks, range(5))
    return tracks


def test_tracks_are_corrected_and_the_corrections_taken_back(project, curation, do):
    found = some_tracks(project)
    path = project / "curation" / "tracks" / f"{SERIES}.star"
    do("set-track-point", point=1, acquisition=3, position=[12.5, -30.0])
    do("delete-track-point", point=0, acquisition=2)
    do("split-track", point=2, acquisition=3)
    do("set-track-point", acquisition=0, position=[5.0, 6.0])
    tracks = read_tracks(path, range(5))
    by_key = {
        (int(p), int(t)): row for p, t, row in zip(tracks.points, tracks.tilts, tracks.positions_angstrom, strict=True)
    }
    assert by_key[1, 3].tolist() == [12.5, -30.0]
    assert (0, 2) not in by_key
    assert {t for p, t in by_key if p == 2} == {0, 1, 2}
    assert {t for p, t in by_key if p == 3} == {3, 4}
    assert by_key[4, 0].tolist() == [5.0, 6.0]
    assert read_tracks_by_hand(path) == {(1, 3), (4, 0)}
    row = tracks.take((tracks.points == 1) & (tracks.tilts == 3))
    assert row.covariance[0].tolist() == [[VOXEL_ANGSTROM**2, 0.0], [0.0, VOXEL_ANGSTROM**2]]
    do("join-tracks", point=2, other=3)
    do("delete-track", point=1)
    joined = read_tracks(path, range(5))
    assert sorted(set(joined.points.tolist())) == [0, 2, 4]
    assert (joined.points == 2).sum() == 5
    for _ in range(6):
        curation.undo([f"tracks/{SERIES}"])
    assert not path.is_file()
    curation.redo([f"tracks/{SERIES}"])
    assert len(read_tracks(path, range(5))) == len(found)


def test_corrections_start_from_what_was_found_however_often_it_is_aligned(project, curation, do):
    found = some_tracks(project)
    do("delete-track", point=0)
    source = project / "align" / "tracks" / f"{SERIES}.star"
    write_tracks(
        source, found.take(found.points == 2), range(5)
    )  # as an alignment by the corrected ones would leave it
    do("delete-track", point=1)
    assert read_tracks(project / "curation" / "tracks" / f"{SERIES}.star", range(5)).names.tolist() == [2]
    curation.undo()
    assert read_tracks(project / "curation" / "tracks" / f"{SERIES}.star", range(5)).names.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("set-track-point", {"acquisition": 9, "position": [0, 0]}, "taken as number 9"),
        ("set-track-point", {"acquisition": 1, "position": [9000, 0]}, "outside of the image"),
        ("set-track-point", {"acquisition": 1, "position": [0, 0], "point": 7}, "no track of a point 7"),
        ("delete-track-point", {"acquisition": 9, "point": 0}, "not tracked in the image"),
        ("split-track", {"acquisition": 0, "point": 0}, "nothing to split"),
        ("join-tracks", {"point": 0, "other": 0}, "to itself"),
        ("delete-track", {"point": 5}, "no track of a point 5"),
        ("set-face-point", {"face": "top", "position": [0, 0, 9000]}, "outside of the tomogram"),
        ("set-face-point", {"face": "top", "position": [0, 0, 10], "number": 4}, "no mark 4"),
        ("delete-face-point", {"number": 4}, "no mark 4"),
        ("draw", {"shape": "filament", "lines": [[[0, 0, 0]]]}, "two different points"),
        ("draw", {"shape": "point", "lines": [[[0, 0, 0]], [[0, 0, 20]]]}, "is one line"),
        ("draw", {"shape": "point", "lines": [[[0, 0, 0]]], "closed": True}, "Only contours"),
        ("draw", {"shape": "point", "lines": [[[0, 0, 0]]], "number": 3}, "no drawing 3"),
        ("draw", {"shape": "point", "lines": [[[0, 0, 0]]], "frame": "0" * 12}, "Load the page again"),
        ("delete-drawing", {"number": 3}, "no drawing 3"),
        ("paint", {"label": 1, "radius": 20, "points": [[0, 0, 0], [0, 0, 30]]}, "through several slices"),
        ("paint", {"label": 1, "radius": 2000, "points": [[0, 0, 0]]}, "larger than the tomogram"),
        ("paint", {"label": 0, "radius": 20, "points": [[0, 0, 0]]}, "label"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(project, do, kind, values, words):
    some_tracks(project)
    with pytest.raises(InputError, match=words):
        do(kind, **values)
    assert not (project / "curation" / "log.jsonl").exists()


def test_faces_are_written_once_both_are_marked_and_carried_with_the_frame(project, curation, do):
    path = project / "curation" / "levels" / f"{SERIES}.star"
    do("set-face-point", face="top", position=[10.0, 20.0, 80.0])
    assert not path.is_file()
    do("set-face-point", face="bottom", position=[-10.0, 20.0, -60.0])
    assert read_faces(project, SERIES).top_angstrom.tolist() == [[10.0, 20.0, 80.0]]
    with pytest.raises(InputError, match="below its bottom"):
        do("set-face-point", face="bottom", position=[0.0, 0.0, 110.0], number=2)
    rotation, shift = level_anew(project)
    do("set-face-point", face="top", position=[30.0, 0.0, 70.0])
    faces = read_faces(project, SERIES)
    assert faces.top_angstrom[1].tolist() == [30.0, 0.0, 70.0]
    assert faces.top_angstrom[0] @ rotation.T + shift == pytest.approx([10.0, 20.0, 80.0], abs=1e-4)
    do("delete-face-point", number=2)
    assert not path.is_file()
    curation.undo()
    assert read_faces(project, SERIES).bottom_angstrom.shape == (1, 3)


def test_a_drawn_filament_and_surface_go_straight_to_oriented_particles(project, curation, do):
    line = [[-200.0, -100.0, 0.0], [-50.0, 40.0, 20.0], [150.0, 100.0, 40.0]]
    do("draw", shape="filament", lines=[line], label="microtubule")
    path = project / "curation" / "drawn" / "filaments.star"
    drawn = read_particles(path)
    assert np.linalg.norm(drawn.positions_angstrom[-1] - line[-1]) < 0.1
    along = np.diff(drawn.positions_angstrom, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    assert np.einsum("ni,ni->n", along, drawn.directions[:-1]).min() > 0.98
    picks = pick_along_filaments(path, 30.0, Grids())
    assert len(picks) > 10
    assert np.linalg.norm(picks.positions_angstrom - np.array(line[1]), axis=1).min() < 16.0
    angle = np.linspace(0.0, 2 * np.pi, 12, endpoint=False)
    rings = [np.stack([100 * np.cos(angle), 80 * np.sin(angle), 0 * angle + z], 1).tolist() for z in (-60.0, 0.0, 60.0)]
    number = do("draw", shape="surface", lines=rings[:1], closed=True).meant.number
    assert not list((project / "curation" / "drawn").glob("*.ply"))
    do("draw", shape="surface", lines=rings, closed=True, number=number)
    mesh = project / "curation" / "drawn" / f"{SERIES}_surface_{number}.ply"
    vertices, _ = read_mesh(mesh)
    assert np.abs(np.hypot(vertices[:, 0] / 100, vertices[:, 1] / 80) - 1).max() < 0.03
    picks = pick_on_surface(mesh, 40.0, 0, tomogram=SERIES)
    assert (np.einsum("ni,ni->n", picks.positions_angstrom * [1, 1, 0], picks.directions) > 0).all()
    do("draw", shape="point", lines=[[[1.0, 2.0, 3.0], [40.0, 50.0, 60.0]]], label="ribosome")
    points = read_particles(project / "curation" / "drawn" / "points.star")
    assert points.positions_angstrom.tolist() == [[1.0, 2.0, 3.0], [40.0, 50.0, 60.0]]
    rotation, shift = level_anew(project)
    do("delete-drawing", number=number)
    assert not mesh.is_file()
    carried = read_particles(project / "curation" / "drawn" / "points.star")
    assert carried.positions_angstrom @ rotation.T + shift == pytest.approx(points.positions_angstrom, abs=1e-3)
    assert curation.undo().meant.number == number
    assert mesh.is_file()


def test_painted_labels_are_a_volume_between_painted_slices_and_train(project, curation, do):
    for z in (-40.0, 40.0):
        do("paint", label=2, points=[[60.0, -30.0, z]], radius=45.0)
    curation.do(edit_of({"kind": "name-label", "label": 2, "name": "ribosome"}))
    with pytest.raises(InputError, match="called ribosome already"):
        curation.do(edit_of({"kind": "name-label", "label": 3, "name": "ribosome"}))
    do("paint", label=5, points=[[-200.0, 100.0, 0.0]], radius=30.0)
    path = project / "curation" / "labels" / f"{SERIES}.mrc"
    values, header = read_mrc(path)
    assert values.shape == SHAPE_ZYX
    assert header.pixel_size_angstrom == VOXEL_ANGSTROM
    z, y, x = (np.arange(n) - n // 2 for n in SHAPE_ZYX)
    disc = (x - 6) ** 2 + (y[:, None] + 3) ** 2 <= 4.5**2
    assert np.array_equal(values == 2, disc & (np.abs(z) <= 4)[:, None, None])
    assert set(np.unique(values).tolist()) == {0, 2, 5}
    assert label_volume_files(project / "curation" / "labels") == [path]
    found = read_labels(path, project)
    assert sorted(found.kinds.tolist()) == ["label 5", "ribosome"]
    middle = found.positions_angstrom[found.kinds == "ribosome"][0]
    assert middle == pytest.approx([60.0, -30.0, 0.0], abs=1e-6)
    do("paint", label=2, points=[[60.0, -30.0, 40.0]], radius=60.0, erase=True)
    assert (read_mrc(path)[0] == 2).sum() == disc.sum()
    for _ in range(2):
        curation.undo([f"labels/{SERIES}"])
    assert (read_mrc(path)[0] == 2).sum() == 9 * disc.sum()


def test_labels_follow_a_tomogram_that_was_made_anew(project, do):
    place = np.array([60.0, -30.0, 10.0])
    for z in (-20.0, 0.0, 20.0):
        do("paint", label=1, points=[np.add(place, (0, 0, z)).tolist()], radius=40.0)
    path = project / "curation" / "labels" / f"{SERIES}.mrc"
    rotation, shift = level_anew(project)
    volume = read_label_volume(path, root=project)
    expected = (place - shift) @ rotation
    assert label_particles(volume).positions_angstrom[0] == pytest.approx(expected, abs=2.0)
    do("paint", label=3, points=[[-100.0, 0.0, 0.0]], radius=30.0)
    both = label_particles(read_label_volume(path, root=project))
    assert both.positions_angstrom[0] == pytest.approx(expected, abs=2.0)
    assert both.positions_angstrom[1] == pytest.approx([-100.0, 0.0, 0.0], abs=1e-6)


def test_volumes_that_hold_no_labels_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_label_volume(tmp_path / "none.mrc")
    for values, words in (
        (np.zeros((4, 4, 4)), "every voxel is 0"),
        (np.full((4, 4, 4), 1.5), "whole numbers"),
        (-np.ones((4, 4, 4)), "from -1"),
    ):
        write_mrc(tmp_path / "x.mrc", values.astype(np.float32), 10.0)
        with pytest.raises(InputError, match=words):
            read_label_volume(tmp_path / "x.mrc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no label volume"):
        label_volume_files(tmp_path / "empty")
    (tmp_path / "labels.star").write_text("data_x\n\nloop_\n_a #1\n1\n")
    values = np.ones((4, 4, 4), dtype=np.float32)
    write_mrc(tmp_path / "x.mrc", values, 10.0)
    with pytest.raises(FormatError, match="does not hold names"):
        read_label_volume(tmp_path / "x.mrc")


def test_a_new_tomogram_takes_drawings_and_labels_along(project, do):
    do("draw", shape="point", lines=[[[50.0, 60.0, 20.0]]])
    do("paint", label=1, points=[[50.0, 60.0, 20.0]], radius=60.0, axis="y")
    labels = project / "curation" / "labels" / f"{SERIES}.mrc"
    before = labels.stat().st_mtime_ns
    refresh_repairs(project)
    assert labels.stat().st_mtime_ns == before
    rotation, shift = level_anew(project)
    Reconstruct().gather(project / "reconstruct", [SERIES])  # as a run does at its end
    expected = (np.array([50.0, 60.0, 20.0]) - shift) @ rotation
    points = read_particles(project / "curation" / "drawn" / "points.star")
    assert points.positions_angstrom[0] == pytest.approx(expected, abs=1e-3)
    painted = label_particles(
        read_label_volume(labels)
    ).positions_angstrom  # a plane on the grid of another may fall apart
    assert np.abs(painted.mean(0) - expected).max() < 10.0


def test_edits_from_a_file_and_what_is_set_by_hand_in_words(project, tmp_path, capsys):
    def repair(*arguments):
        return main.run(["repair", str(project), *map(str, arguments)]), *capsys.readouterr()

    assert "Nothing is set by hand" in repair()[1]
    some_tracks(project)
    given = [
        {"kind": "delete-track", "series": SERIES, "point": 1},
        {"kind": "set-face-point", "series": SERIES, "face": "top", "position": [0, 0, 50]},
        {"kind": "paint", "series": NAMES[1], "label": 3, "points": [[0, 0, 0]], "radius": 30},
    ]
    file = tmp_path / "edits.jsonl"
    file.write_text("\n".join(map(json.dumps, given)))
    code, out, _ = repair("--edits", file, "--json")
    assert code == 0
    assert "Deleted the track of point 1" in out
    assert "Its tracks are corrected: 0 of 10 places set by hand." in out
    assert "They are used once the bottom is marked too." in out
    assert f"{NAMES[1]}: Painted labels: 3; strokes 1." in out
    assert json.loads(out.strip().splitlines()[-1])["done"][0].startswith("deleted the track")
    for content, words in (
        ("{", "is not JSON"),
        ('[{"kind": "draw"}]', "Edit 1"),
        (json.dumps(given[0]), "Edit 1"),
        ('{"kind": "paint", "series": "x", "label": 1, "points": [], "radius": 3}', "Edit 1"),
    ):
        file.write_text(content)
        code, _, problem = repair("--edits", file)
        assert code == 2
        assert words in problem
    assert repair("--edits", tmp_path / "none")[0] == 2
