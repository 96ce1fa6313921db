"""Curation in a real browser: what is edited in a page is in the files afterwards."""

import base64
import io
import json
import urllib.error
import urllib.request

import numpy as np
import pytest
from browsing import keep_picture, serious_faults
from PIL import Image
from small_project import PLACES_XYZ_ANGSTROM, SHAPE_ZYX, VOXEL_ANGSTROM

from eucentric.errors import InputError
from eucentric.io.mrc import read_mrc
from eucentric.io.particles import read_particles
from eucentric.io.star import read_star_text
from eucentric.io.tilt_series import read_tilt_series, write_tilt_series_set
from eucentric.pipeline.curation_log import read_log
from eucentric.pipeline.curation_session import Curation
from eucentric.pipeline.curation_tilts import ExcludeTilt
from eucentric.pipeline.plan import read_exclusions
from eucentric.pipeline.records import Record, write_record
from eucentric.viewer import slices_images
from eucentric.viewer.curate_handlers import do_edits
from eucentric.viewer.site import Site
from eucentric.viewer.slices_page import edited_picks, page_values
from eucentric.viewer.tilts_images import aligned_image, read_tilt_image
from eucentric.viewer.tilts_page import tilt_list
from eucentric.viewer.volumes import ChunkCache, open_volume

CURATED = "pick/both/particles_curated.star"
ANGSTROM_AT_EDGE = 0.5 * VOXEL_ANGSTROM


def slices_of(open_page, name="TS_01"):
    page = open_page(f"/slices/{name}")
    page.wait_for_function("() => document.querySelector('#slice-xy canvas[data-shown]')?.dataset.shown > ''")
    page.wait_for_function("() => document.getElementById('counts').textContent > ''")
    page.locator("#sum").select_option("1")
    return page


def go_to(page, axis, index):
    page.locator(f"#at-{axis}").evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", str(index))


def darkest_pixel(page, plane):
    """Of the picture that is shown, in pixels of the page from its upper left corner: the centre of mass of what is dark."""
    canvas = page.locator(f"#slice-{plane} canvas").first
    page.wait_for_function(
        "plane => { const c = document.querySelectorAll(`#slice-${plane} canvas`)[1]; return c.dataset.shown !== ''; }",
        arg=plane,
    )
    data = base64.b64decode(canvas.evaluate("c => c.toDataURL('image/png')").partition(",")[2])
    image = np.asarray(Image.open(io.BytesIO(data)).convert("L"), float)
    height, width = image.shape
    dark = np.clip(image.max() - image - 0.6 * np.ptp(image), 0, None)
    y, x = np.mgrid[:height, :width] + 0.5
    return float((dark * x).sum() / dark.sum()), float((dark * y).sum() / dark.sum())


def press(page, plane, x, y):
    page.locator(f"#slice-{plane} canvas").nth(1).click(position={"x": x, "y": y})


def said(page, words):
    page.wait_for_function("w => document.getElementById('said').textContent.includes(w)", arg=words)


def saved(root):
    found = read_particles(root / CURATED).in_tomogram("TS_01")
    return {
        str(n): (tuple(p), str(o))
        for n, p, o in zip(
            found.texts["rlnTomoParticleName"], found.positions_angstrom, found.texts["eucCurated"], strict=True
        )
    }


# planes, and where a middle of the volume is set before: every blob is alone in one of three slices
@pytest.mark.slow
@pytest.mark.parametrize(
    ("plane", "through", "most"), [("xy", 2, 2048), ("xz", 1, 2048), ("zy", 0, 2048), ("xy", 2, 40)]
)
def test_a_press_at_a_density_saves_its_place(open_page, viewer, monkeypatch, plane, through, most):
    """The hand: the blobs lie in three octants, no two mirror images of each other. Also where pictures have means of blocks."""
    monkeypatch.setattr(slices_images, "_MOST_PIXELS", most)
    page = slices_of(open_page)
    page.locator("#new-list").fill("mine")
    page.locator("#begin button").click()
    said(page, "mine")
    page.locator("#contrast").evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')); }")
    for number, place in enumerate(PLACES_XYZ_ANGSTROM, start=1):
        index = round(place[through] / VOXEL_ANGSTROM) + SHAPE_ZYX[::-1][through] // 2
        go_to(page, "xyz"[through], index)
        press(page, plane, *darkest_pixel(page, plane))
        page.wait_for_function("n => document.getElementById('counts').textContent.startsWith(`${n} here`)", arg=number)
    found = read_particles(viewer.site.root / "pick" / "mine" / "particles_curated.star").positions_angstrom
    assert np.abs(found - PLACES_XYZ_ANGSTROM).max() < ANGSTROM_AT_EDGE


def test_picks_are_added_moved_deleted_and_taken_back(open_page, viewer):
    root = viewer.site.root
    original = (root / "pick/both/particles.star").read_bytes()
    page = slices_of(open_page)
    assert page.locator("#counts").text_content().startswith("3 here (0 added, 0 moved), 6 in the list")
    place = PLACES_XYZ_ANGSTROM[0]
    page.locator("#next-pick").click()
    canvas = page.locator("#slice-xy canvas").nth(1)
    frame, scale = canvas.bounding_box(), canvas.bounding_box()["width"] / SHAPE_ZYX[2]
    x = frame["x"] + (place[0] / VOXEL_ANGSTROM + SHAPE_ZYX[2] // 2 + 0.5) * scale
    y = frame["y"] + (SHAPE_ZYX[1] - (place[1] / VOXEL_ANGSTROM + SHAPE_ZYX[1] // 2) - 0.5) * scale
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 4 * scale, y + 2 * scale, steps=4)
    page.mouse.up()
    said(page, "Saved: moved TS_01/1")
    moved, origin = saved(root)["TS_01/1"]
    assert origin == "moved"
    np.testing.assert_allclose(moved, place + np.array([40.0, -20.0, 0.0]), atol=0.1 * VOXEL_ANGSTROM)
    page.locator("#next-pick").click()
    page.locator("#delete").click()
    said(page, "Saved: deleted TS_01/2")
    press(page, "xy", 5, 5)
    said(page, "Saved: added a pick to both in TS_01")
    keep_picture(page, "curation-slices")
    assert sorted(o for _, o in saved(root).values()) == ["added", "moved", "picked"]
    assert not serious_faults(page)
    for words in ("Undone: added", "Undone: deleted", "Undone: moved"):
        page.locator("#undo").click()
        said(page, words)
    page.wait_for_function("() => document.getElementById('undo').disabled")
    assert not (root / CURATED).exists()
    page.locator("#redo").click()
    said(page, "Done again: moved")
    assert saved(root)["TS_01/1"][1] == "moved"
    assert (root / "pick/both/particles.star").read_bytes() == original
    assert [e.action for e in read_log(root).entries] == [*["edit"] * 3, *["undo"] * 3, "redo"]


@pytest.mark.slow
def test_all_is_done_by_keys(open_page, viewer):
    root = viewer.site.root
    page = slices_of(open_page)
    page.locator("#slice-xy canvas").nth(1).focus()
    page.keyboard.press("n")
    page.keyboard.press("Alt+ArrowRight")
    page.keyboard.press("Alt+ArrowUp")
    said(page, "Saved: moved TS_01/1")
    place = PLACES_XYZ_ANGSTROM[0] + np.array([VOXEL_ANGSTROM, VOXEL_ANGSTROM, 0.0])
    np.testing.assert_allclose(saved(root)["TS_01/1"][0], place, atol=1e-3)
    page.keyboard.press("Delete")
    said(page, "Saved: deleted TS_01/1")
    page.keyboard.press("Control+z")
    said(page, "Undone: deleted TS_01/1")
    for key in ("Shift+ArrowLeft", "ArrowDown", "PageUp", "."):
        page.keyboard.press(key)
    page.keyboard.press("a")
    said(page, "Saved: added")
    steps = np.array([-10.0, -1.0, 2.0]) * VOXEL_ANGSTROM
    np.testing.assert_allclose(saved(root)["TS_01/c4"][0], PLACES_XYZ_ANGSTROM[0] + steps, atol=1e-3)
    page.keyboard.press("4")
    said(page, "Saved: rated TS_01 4 of 5")
    ratings = root / "curation" / "tomograms.star"
    assert read_star_text(ratings)["tomograms"]["eucRating"] == ["4"]
    page.locator("#note").fill("thin <ice>")
    page.locator("#note-form button").click()
    said(page, "thin <ice>")
    assert read_star_text(ratings)["tomograms"]["eucNote"] == ["thin <ice>"]


@pytest.mark.slow
def test_what_is_refused_is_said(open_page):
    page = slices_of(open_page)
    page.locator("#slice-xy canvas").nth(1).focus()
    page.locator("#visible").uncheck()
    page.keyboard.press("n")
    page.locator("#slice-xy canvas").nth(1).focus()
    page.keyboard.press("n")
    page.keyboard.press("a")
    said(page, "has a pick at")
    page.seen.forget()  # the refused request


def tilts_of(open_page, name="TS_01"):
    page = open_page(f"/tilts/{name}")
    page.wait_for_function("() => document.getElementById('rows').children.length > 0")
    page.wait_for_function("() => document.getElementById('picture').naturalWidth > 0")
    return page


@pytest.mark.slow
def test_a_tilt_left_out_in_the_page_is_in_the_plan(open_page, viewer):
    root = viewer.site.root
    page = tilts_of(open_page)
    assert page.locator("#about").text_content().startswith("0°")
    page.keyboard.press("ArrowRight")
    page.locator("#reason").fill("ice")
    page.locator("#exclude").click()
    said(page, "Saved: left out the tilt of TS_01 at 20 degrees: ice. The next `eucentric run` uses it.")
    assert [(e.series, e.angle, e.reason) for e in read_exclusions(root)] == [("TS_01", 20.0, "ice")]
    page.wait_for_function("() => document.getElementById('figure').classList.contains('out')")
    assert "left out: ice" in page.locator("#about").text_content()
    keep_picture(page, "curation-tilts")
    assert not serious_faults(page)
    page.locator("#picture").click()
    page.keyboard.press("x")
    said(page, "took back the tilt")
    assert read_exclusions(root) == ()
    page.keyboard.press("Control+z")
    said(page, "Undone: took back")
    page.locator("#undo").click()
    said(page, "Undone: left out")
    assert read_exclusions(root) == ()


@pytest.mark.slow
def test_a_series_left_out_in_the_page_is_in_the_plan_and_on_the_first_page(open_page, viewer):
    page = tilts_of(open_page, "TS_02")
    page.locator("#reason").fill("<img src=x onerror=alert(1)>")
    page.locator("#exclude-series").click()
    said(page, "left out the tilt series TS_02")
    assert [(e.series, e.angle) for e in read_exclusions(viewer.site.root)] == [("TS_02", None)]
    page.locator("#series-out").wait_for(state="visible")
    assert page.locator("#series-out").text_content() == "This series is left out: <img src=x onerror=alert(1)>"
    page = open_page("/slices/TS_02")
    assert page.get_by_text("This series is left out: <img src=x onerror=alert(1)>").count() == 1
    page = open_page("/curation")
    assert page.locator("tbody img").count() == 0
    page.locator("#undo").click()
    page.wait_for_function("() => document.querySelectorAll('tbody tr').length === 2")
    assert page.locator(".undone").count() == 1
    assert not serious_faults(page)
    keep_picture(page, "curation-log")
    assert read_exclusions(viewer.site.root) == ()


@pytest.mark.slow
def test_names_that_are_html_are_text(open_page, viewer):
    root = viewer.site.root
    path = root / "pick/both/particles.star"
    path.write_text(path.read_text().replace("TS_01/1", "<b>x</b>/1", 1))
    page = slices_of(open_page)
    page.locator("#next-pick").click()
    assert page.locator("#selected").text_content().startswith("<b>x</b>/1: x 160.0")
    assert page.locator("#selected b").count() == 0


def ask(viewer, path, body=None, **headers):
    """The status of a request without a browser."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(viewer.address.rstrip("/") + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


RATE = {"kind": "rate-tomogram", "tomogram": "TS_01", "rating": 3}


def test_nothing_is_written_without_token_or_from_elsewhere(viewer):
    cookie = f"{viewer.site.cookie}={viewer.site.guard.token}"
    own = {"Content-Type": "application/json", "Cookie": cookie, "Origin": viewer.address.rstrip("/")}
    for change in (
        {"Cookie": ""},
        {"Cookie": f"{viewer.site.cookie}=guess"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Content-Type": "text/plain"},
    ):
        for path, body in (("edit", RATE), ("undo", {}), ("redo", {})):
            assert ask(viewer, f"/api/curation/{path}", body, **{**own, **change}) in (400, 403), change
    without_origin = {k: v for k, v in own.items() if k != "Origin"}
    assert ask(viewer, "/api/curation/edit", RATE, **without_origin) == 403
    assert ask(viewer, "/api/curation/edit", **own) == 405  # reading changes nothing
    assert read_log(viewer.site.root).entries == ()
    assert ask(viewer, "/api/curation/edit", RATE, **own) == 200
    assert len(read_log(viewer.site.root).entries) == 1


def test_addresses(viewer):
    cookie = f"{viewer.site.cookie}={viewer.site.guard.token}"
    for path, status in (
        ("/slices/TS_09", 400),
        ("/slices/..%2f..%2fetc", 400),
        ("/tilts/TS_09", 400),
        ("/api/tilts/..%2fTS_01", 400),
        ("/api/slices/TS_01/picks/..%2f..", 400),
        ("/api/slices/TS_01/picks/%2e%2e", 400),
        ("/pictures/slice/TS_01/tomogram/xy/24.png", 404),
        ("/pictures/slice/TS_01/tomogram/xy/3.png?sum=1000", 400),
        ("/pictures/slice/TS_01/Nothing/xy/3.png", 400),
        ("/pictures/tilt/TS_01/77.jpg", 404),
        ("/pictures/slice/TS_01/tomogram/xy/3.png", 200),
        ("/pictures/tilt/TS_01/3.jpg", 200),
    ):
        assert (path, ask(viewer, path, Cookie=cookie)) == (path, status)
        assert ask(viewer, path) == 403


def test_edits_of_wrong_form_are_refused(viewer):
    own = {
        "Content-Type": "application/json",
        "Cookie": f"{viewer.site.cookie}={viewer.site.guard.token}",
        "Origin": viewer.address.rstrip("/"),
    }
    about = {"kind": "add-pick", "tomogram": "TS_01", "picks": "both"}
    for body in (
        {},
        {"edits": []},
        {"edits": "all"},
        {"kind": "exclude-tilt"},
        {**about, "position": [1e9, 0, 0]},
        {**about, "position": ["a", 0, 0]},
        {**about, "picks": "../../etc", "position": [0, 0, 0]},
        {**about, "position": [0, 0, 0], "path": "/etc/passwd"},
        {"edits": [RATE, {"kind": "rate-tomogram", "tomogram": "TS_01", "rating": 9}]},
    ):
        assert ask(viewer, "/api/curation/edit", body, **own) == 400
    assert ask(viewer, "/api/curation/undo", {"scopes": "all"}, **own) == 400
    assert read_log(viewer.site.root).entries == ()


@pytest.mark.parametrize(("most", "half"), [(128, 6), (32, 3)])
def test_a_tilt_is_shown_where_the_alignment_puts_the_specimen(project, most, half):
    """Expected places come from turning points: what Rz and the shift of a pose do is undone by the picture."""
    series = read_tilt_series(project / "align" / "tilt_series.star", "TS_01", project)
    pixel, checked = VOXEL_ANGSTROM * max(1, 64 // most), 0
    for tilt in series.tilts:
        shown = aligned_image(read_tilt_image(project, tilt), tilt.pose, VOXEL_ANGSTROM, most=most)
        rows, columns = shown.shape
        angle = np.radians(tilt.pose.y_tilt_deg)
        for x, y, z in PLACES_XYZ_ANGSTROM:
            across = (np.cos(angle) * x + np.sin(angle) * z) / pixel + columns // 2
            up = y / pixel + rows // 2
            low_x, low_y = round(across) - half, round(up) - half
            box = shown[max(low_y, 0) : low_y + 2 * half + 1, max(low_x, 0) : low_x + 2 * half + 1]
            if box.shape != (2 * half + 1,) * 2 or not np.isfinite(box).all():  # beyond the edge of the image
                continue
            checked += 1
            dark = np.clip(-0.35 - box, 0, None)
            v, u = np.mgrid[: 2 * half + 1, : 2 * half + 1]
            found = np.array([(dark * u).sum(), (dark * v).sum()]) / dark.sum() + [low_x, low_y]
            np.testing.assert_allclose(found, [across, up], atol=0.35)
    assert checked >= 10


def test_a_tilt_that_was_taken_back_is_used_again_by_the_next_run(project):
    site = Site(root=project)
    record = Record(
        stage="align",
        series="TS_01",
        outcome="done",
        fingerprint="f",
        upstream="u",
        stage_version=1,
        parameters={},
        project={},
        seed=0,
        exclusions=({"series": "TS_01", "angle": 20.0, "acquisition": 3, "reason": "ice"},),
    )
    write_record(project / "align", record)
    series = read_tilt_series(project / "reconstruct" / "tilt_series.star", "TS_01", project)
    every = [read_tilt_series(project / "reconstruct" / "tilt_series.star", "TS_02", project)]
    write_tilt_series_set(
        project / "reconstruct" / "tilt_series.star", [series.without({3: "ice", 4: "dark"}), *every], project
    )
    states = {t["angle"]: (t["state"], t["reason"]) for t in tilt_list(site, "TS_01")["tilts"]}
    assert states[20.0] == ("back", "")
    assert states[40.0] == ("stage", "dark")
    Curation(project).do(ExcludeTilt(series="TS_01", angle=20, reason="ice"))
    states = {t["angle"]: (t["state"], t["reason"]) for t in tilt_list(site, "TS_01")["tilts"]}
    assert states[20.0] == ("out", "ice")
    assert states[0.0] == ("used", "")


def test_nothing_is_read_or_written_through_a_link_out_of_the_project(project, tmp_path):
    site, outside = Site(root=project), tmp_path / "outside"
    outside.mkdir()
    (outside / "particles.star").write_bytes((project / "pick/both/particles.star").read_bytes())
    (project / "pick/linked").symlink_to(outside)
    pick = {"kind": "add-pick", "tomogram": "TS_01", "picks": "linked", "position": [0, 0, 0]}
    with pytest.raises(InputError, match="leads there"):
        edited_picks(site, "TS_01", "linked")
    with pytest.raises(InputError, match="leads there"):
        do_edits(site, pick)
    (project / "curation").symlink_to(outside)
    with pytest.raises(InputError, match="leads there"):
        do_edits(site, RATE)
    assert [p.name for p in outside.iterdir()] == ["particles.star"]


def test_a_project_without_lists_can_be_picked_and_rated(project):
    site = Site(root=project)
    (project / "pick/both/particles.star").unlink()
    values = page_values(site, "TS_01", None, None)
    assert (values["lists"], values["values"]["list"]) == (["by-hand"], "by-hand")
    assert edited_picks(site, "TS_01", "by-hand")["picks"] == []
    made = do_edits(site, {"kind": "add-pick", "tomogram": "TS_01", "picks": "by-hand", "position": [0, 10, 0]})
    assert made["written"] == ["pick/by-hand/particles_curated.star"]
    assert [p["place"] for p in edited_picks(site, "TS_01", "by-hand")["picks"]] == [[0.0, 10.0, 0.0]]


def test_several_edits_are_done_as_far_as_they_can_be(project):
    site = Site(root=project)
    about = {"kind": "delete-pick", "tomogram": "TS_01", "picks": "both"}
    with pytest.raises(InputError, match=r"Edit 2 of 3, after which none was done: .*has no pick TS_01/9"):
        do_edits(site, {"edits": [{**about, "pick": f"TS_01/{n}"} for n in (1, 9, 2)]})
    assert [p["name"] for p in edited_picks(site, "TS_01", "both")["picks"]] == ["TS_01/2", "TS_01/3"]


@pytest.mark.parametrize(("plane", "axis", "shape"), [("xy", 0, (16, 22)), ("xz", 1, (8, 22)), ("zy", 2, (16, 8))])
def test_a_large_slice_is_sent_in_blocks(project, monkeypatch, plane, axis, shape):
    path = project / "reconstruct/tomograms/TS_01.mrc"
    monkeypatch.setattr(slices_images, "_MOST_PIXELS", 22)
    sent = slices_images.slice_picture(open_volume(path, "image", ChunkCache()), plane, 9, 3, (-1.0, 1.0))
    image = np.asarray(Image.open(io.BytesIO(sent)), float)
    assert image.shape == shape
    mean = read_mrc(path)[0].astype(float).take([8, 9, 10], axis).mean(axis)
    rows = mean.T if plane == "zy" else mean
    # pixels go up from the last row; white is 2 and black -2, as the limits are widened by half on each side
    expected = 255 * (rows[:3, :3].mean() + 2) / 4
    assert image[-1, 0] == pytest.approx(expected, abs=1)
    assert image[-6, 3] == pytest.approx(255 * (rows[15:18, 9:12].mean() + 2) / 4, abs=1)
