"""Repair in a real browser: what is dragged, drawn and painted stands in the files, at the right place."""

import time

import numpy as np
import pytest
from browsing import keep_picture, serious_faults
from small_project import ANGLES_DEG, IMAGE_SHAPE, NAMES, PLACES_XYZ_ANGSTROM, SHAPE_ZYX, VOXEL_ANGSTROM, make_series

from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles
from eucentric.io.tracks import read_tracks, read_tracks_by_hand, write_tracks
from eucentric.models.particle_projection import project_particles
from eucentric.models.tracks import Tracks
from eucentric.pipeline.repair_level_files import read_faces

SERIES = NAMES[0]
TILTS = len(ANGLES_DEG)


@pytest.fixture
def seen(project):
    """Tracks of the three round things, (tilt, point, 2) A, one of them wrong in an image."""
    pixels = project_particles(PLACES_XYZ_ANGSTROM, make_series(project, SERIES)).pixels
    places = (pixels - np.array([IMAGE_SHAPE[1] // 2, IMAGE_SHAPE[0] // 2])) * VOXEL_ANGSTROM
    spoiled = places.copy()
    spoiled[3, 1] += [70.0, 0.0]
    tilt, point = (grid.ravel() for grid in np.meshgrid(np.arange(TILTS), np.arange(3), indexing="ij"))
    tracks = Tracks.build(point, tilt, spoiled[tilt, point], sigma_angstrom=2.0)
    (project / "align" / "tracks").mkdir()
    write_tracks(project / "align" / "tracks" / f"{SERIES}.star", tracks, range(TILTS))
    return places


def on_image(page, place):
    """Where a place (A from the image's centre) is on the page."""
    box = page.locator("#holder canvas").bounding_box()
    column, row = place / VOXEL_ANGSTROM + np.array([IMAGE_SHAPE[1] // 2, IMAGE_SHAPE[0] // 2])
    scale = box["width"] / IMAGE_SHAPE[1]
    return box["x"] + (column + 0.5) * scale, box["y"] + (IMAGE_SHAPE[0] - row - 0.5) * scale


def drag(page, start, end):
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*(0.5 * (a + b) for a, b in zip(start, end, strict=True)))
    page.mouse.move(*end)
    page.mouse.up()


def until(page, check, seconds=15.0):
    """Waits for what a page comes to; its policy forbids scripts that would wait in it."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, page.locator("#said").inner_text()
        page.wait_for_timeout(40)


def said(page, words):
    until(page, lambda: words in page.locator("#said").inner_text())


def attribute(page, selector, name):
    return page.locator(selector).first.get_attribute(name)


def test_a_point_that_is_dragged_stands_in_the_tracks_where_it_is_seen(open_page, project, seen):
    page = open_page(f"/repair/tracks/{SERIES}")
    until(page, lambda: page.locator("#rows tr").count() == 3)
    assert not serious_faults(page)  # also before a point is chosen
    page.locator("#worst").click()
    until(page, lambda: attribute(page, "#holder canvas", "data-shown") == "3")
    assert "Point 1" in page.locator("#chosen").inner_text()
    assert not serious_faults(page)
    keep_picture(page, "repair-tracks")
    drag(page, on_image(page, seen[3, 1] + [70.0, 0.0]), on_image(page, seen[3, 1]))
    said(page, "Saved: set point 1")
    said(page, "The next `eucentric run` uses it.")
    path = project / "curation" / "tracks" / f"{SERIES}.star"
    tracks = read_tracks(path, range(TILTS))
    moved = tracks.positions_angstrom[(tracks.points == 1) & (tracks.tilts == 3)][0]
    assert np.abs(moved - seen[3, 1]).max() < 0.5 * VOXEL_ANGSTROM
    others = ~((tracks.points == 1) & (tracks.tilts == 3))
    assert tracks.positions_angstrom[others] == pytest.approx(
        seen[tracks.tilts[others], tracks.points[others]], abs=1e-6
    )
    assert read_tracks_by_hand(path) == {(1, 3)}
    # by keyboard: a pixel up, then away here, then all of it back
    page.locator("#holder canvas").focus()
    page.keyboard.press("Alt+ArrowUp")
    page.wait_for_timeout(100)
    until(
        page,
        lambda: (
            read_tracks(path, range(TILTS)).positions_angstrom[:, 1].sum() > tracks.positions_angstrom[:, 1].sum() + 1
        ),
    )
    page.wait_for_timeout(300)
    again = read_tracks(path, range(TILTS))
    assert again.positions_angstrom[(again.points == 1) & (again.tilts == 3)][0] - moved == pytest.approx(
        [0.0, VOXEL_ANGSTROM]
    )
    page.keyboard.press("Delete")
    said(page, "Saved: deleted point 1")
    page.get_by_label("marks a new bead").check()
    page.mouse.click(*on_image(page, np.array([-150.0, 60.0])))
    said(page, "Saved: set point 3")
    new = read_tracks(path, range(TILTS))
    assert np.abs(new.positions_angstrom[new.points == 3][0] - [-150.0, 60.0]).max() < 0.5 * VOXEL_ANGSTROM
    until(page, lambda: "point 3" in (attribute(page, "#undo", "title") or ""))
    for _ in range(4):
        before = page.locator("#undo").get_attribute("title")
        page.locator("#undo").click()
        until(page, lambda before=before: attribute(page, "#undo", "title") != before)
    assert not path.is_file()


def in_slice(page, plane, place):
    """Where a place of a slice is on the page."""
    canvas = page.locator(f"#slice-{plane} canvas >> nth=1")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    z, y, x = SHAPE_ZYX
    size = {"x": x, "y": y, "z": z}
    across, up = {"xy": "xy", "xz": "xz", "zy": "zy"}[plane]
    index = {a: place["xyz".index(a)] / VOXEL_ANGSTROM + size[a] // 2 for a in "xyz"}
    scale = box["width"] / size[across]
    return box["x"] + (index[across] + 0.5) * scale, box["y"] + (size[up] - index[up] - 0.5) * scale


@pytest.fixture
def drawing(open_page):
    page = open_page(f"/repair/draw/{SERIES}")
    until(page, lambda: attribute(page, "body", "data-loaded") == "1")
    until(page, lambda: attribute(page, "#slice-xy canvas >> nth=1", "data-shown"))
    return page


def tool(page, words):
    page.get_by_label(words, exact=True).check()


def test_a_brush_stroke_is_in_the_label_volume_where_it_was_painted(drawing, project):
    page = drawing
    place = PLACES_XYZ_ANGSTROM[0] * [1, 1, 0]
    page.locator("#label").fill("500")
    page.locator("#label").press("Tab")
    said(page, "500 is not between 1 and 127: 127 is used.")
    page.locator("#label").fill("1")
    page.locator("#radius").fill("45")
    tool(page, "paints a label")
    drag(page, in_slice(page, "xy", place), in_slice(page, "xy", np.add(place, [60.0, -80.0, 0.0])))
    said(page, "Saved: painted label 1")
    path = project / "curation" / "labels" / f"{SERIES}.mrc"
    values = read_mrc(path)[0]
    z, y, x = (np.arange(n) - n // 2 for n in SHAPE_ZYX)
    assert np.flatnonzero((values == 1).any((1, 2))).tolist() == [SHAPE_ZYX[0] // 2]
    painted = np.argwhere(values[SHAPE_ZYX[0] // 2] == 1)
    middle = (painted.mean(0) - [SHAPE_ZYX[1] // 2, SHAPE_ZYX[2] // 2])[::-1] * VOXEL_ANGSTROM
    assert np.abs(middle - np.add(place, [30.0, -40.0, 0.0])[:2]).max() < 0.5 * VOXEL_ANGSTROM
    line = np.linspace(0.0, 1.0, 200)[:, None] * [6.0, -8.0] + place[:2] / VOXEL_ANGSTROM
    away = np.hypot(x[None, :, None] - line[:, 0], y[:, None, None] - line[:, 1]).min(-1)
    wrong = (values[SHAPE_ZYX[0] // 2] == 1) != (away <= 4.5)
    assert not wrong[np.abs(away - 4.5) > 0.6].any()
    del z
    # by keyboard: two slices on, a dab; the shape between them is there too
    page.locator("#slice-xy canvas >> nth=1").focus()
    for _ in range(4):
        page.keyboard.press("PageUp")
    tool(page, "paints a label")
    page.locator("#slice-xy canvas >> nth=1").focus()
    page.keyboard.press("a")
    until(page, lambda: attribute(page, "body", "data-loaded") == "3")
    assert (read_mrc(path)[0] == 1).any((1, 2)).sum() >= 2
    page.locator("#label-name").fill("<b>ribosome</b>")
    page.get_by_role("button", name="Save").click()
    said(page, "named label 1")
    assert page.locator("#labels b").count() == 0
    until(page, lambda: attribute(page, "#slice-xy canvas >> nth=1", "data-labels"))
    keep_picture(page, "repair-paint")
    assert not serious_faults(page)


@pytest.mark.slow
def test_marks_lines_and_contours_are_in_their_files(drawing, project):
    page = drawing
    tool(page, "marks the top of the specimen")
    for place in ([-200.0, 0.0, 70.0], [180.0, 0.0, 50.0]):
        page.mouse.click(*in_slice(page, "xz", np.array(place)))
        said(page, f"marked the top of the specimen of {SERIES}")
        page.wait_for_timeout(300)
    tool(page, "marks its bottom")
    page.mouse.click(*in_slice(page, "xz", np.array([0.0, 0.0, -60.0])))
    said(page, "marked the bottom")
    until(page, lambda: page.locator("#slab").inner_text().startswith("Thickness"))
    faces = read_faces(project, SERIES)
    assert np.abs(faces.top_angstrom - [[-200.0, 0.0, 70.0], [180.0, 0.0, 50.0]]).max() < 0.5 * VOXEL_ANGSTROM
    assert np.abs(faces.bottom_angstrom - [[0.0, 0.0, -60.0]]).max() < 0.5 * VOXEL_ANGSTROM
    tool(page, "draws a filament")
    line = np.array([[-220.0, -150.0, 0.0], [-50.0, 20.0, 0.0], [140.0, 160.0, 0.0]])
    for place in line:
        page.mouse.click(*in_slice(page, "xy", place))
        page.wait_for_timeout(350)  # two presses near each other in time would be a double one
    page.get_by_role("button", name="Finish the line").click()
    said(page, "drew filament")
    drawn = read_particles(project / "curation" / "drawn" / "filaments.star")
    assert np.abs(drawn.positions_angstrom[[0, -1]] - line[[0, -1]]).max() < 0.5 * VOXEL_ANGSTROM
    tool(page, "draws a contour of a surface")
    for height in (-50.0, 50.0):
        page.locator("#at-z").fill(str(int(height / VOXEL_ANGSTROM) + SHAPE_ZYX[0] // 2))
        for place in ([-100.0, 50.0, height], [0.0, 90.0, height], [100.0, 50.0, height]):
            page.mouse.click(*in_slice(page, "xy", np.array(place)))
            page.wait_for_timeout(350)
        page.keyboard.press("Enter")
        said(page, "drew surface")
        until(page, lambda: page.locator("#onto").input_value() != "")
    until(page, lambda: len(list((project / "curation" / "drawn").glob(f"{SERIES}_surface_*.ply"))) == 1)
    tool(page, "draws a point")
    page.mouse.click(*in_slice(page, "xy", np.array([30.0, -70.0, 50.0])))
    said(page, "drew point")
    points = read_particles(project / "curation" / "drawn" / "points.star")
    assert np.abs(points.positions_angstrom[0] - [30.0, -70.0, 50.0]).max() < 0.5 * VOXEL_ANGSTROM
    keep_picture(page, "repair-draw")
    page.get_by_role("button", name="Delete filament", exact=False).click()
    said(page, "deleted drawing")
    assert not (project / "curation" / "drawn" / "filaments.star").exists()
    assert not serious_faults(page)
