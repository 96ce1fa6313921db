"""RELION's tables of tilt series put points where RELION's own equations, written out here, put them."""

from pathlib import Path

import numpy as np
import pytest
import starfile
from exchange_phantom import SIZES_XY, phantom_series, points, seen

from eucentric.errors import FormatError, InputError
from eucentric.io.exchange.records import Given
from eucentric.io.exchange.relion4 import FORMAT as RELION4
from eucentric.io.exchange.relion5 import FORMAT as RELION5
from eucentric.io.star import write_star

SOME = {"x_tilt": True, "excluded": True, "phase_shift": True}


def turn(axis: int, degrees: float) -> np.ndarray:
    """gravis' t4Matrix::rotation about an axis, counter-clockwise."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    m = np.eye(4)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    m[i, i], m[j, j], m[i, j], m[j, i] = c, c, -s, s
    return m


def moved(*v: float) -> np.ndarray:
    m = np.eye(4)
    m[:3, 3] = v
    return m


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in str(text).strip("[]").split(",")])


def hermite(coefficients: np.ndarray, grid: tuple[int, int], size: tuple[int, int], q: np.ndarray) -> np.ndarray:
    """Spline2DDeformationModel::computeShift."""
    data = coefficients.reshape(2, grid[1], grid[0], 4)
    g = [min(max(q[k] / (size[k] / (grid[k] - 1)), 0.0), grid[k] - 1 - 1e-10) for k in (0, 1)]
    cx, cy = int(g[0]), int(g[1])
    x, y = g[0] - cx, g[1] - cy
    vx = np.array([1 - 3 * x**2 + 2 * x**3, 3 * x**2 - 2 * x**3, x - 2 * x**2 + x**3, -(x**2) + x**3])
    vy = np.array([1 - 3 * y**2 + 2 * y**3, 3 * y**2 - 2 * y**3, y - 2 * y**2 + y**3, -(y**2) + y**3])
    out = []
    for dim in (0, 1):
        d00, d01, d10, d11 = data[dim, cy, cx], data[dim, cy + 1, cx], data[dim, cy, cx + 1], data[dim, cy + 1, cx + 1]
        f = np.array(
            [
                [d00[0], d01[0], d00[2], d01[2]],
                [d10[0], d11[0], d10[2], d11[2]],
                [d00[1], d01[1], d00[3], d01[3]],
                [d10[1], d11[1], d10[3], d11[3]],
            ]
        )
        out.append(vx @ f @ vy)
    return np.array(out)


def by_relion(
    listing: dict, tilts: list[dict], size_xy: tuple[int, int], places: np.ndarray | None = None
) -> np.ndarray:
    """(tilt, point, 3): pixels and depth in A of our points, or of places (tilt, point, 3).

    By loadTomogram, projectPoint and getDepthOffset.
    """
    px = listing["rlnTomoTiltSeriesPixelSize"]
    volume = np.array([listing[f"rlnTomoSize{a}"] for a in "XYZ"])
    centre = volume / 2.0
    out = []
    for t, row in enumerate(tilts):
        if "rlnTomoProjX" in row:
            p = np.array([numbers(row[f"rlnTomoProj{a}"]) for a in "XYZW"])
        else:
            s0 = moved(*(-float(int(n / 2)) for n in volume))
            r = turn(2, row["rlnTomoZRot"]) @ turn(1, row["rlnTomoYTilt"]) @ turn(0, row["rlnTomoXTilt"])
            s1 = moved(row["rlnTomoXShiftAngst"] / px, row["rlnTomoYShiftAngst"] / px, 0)
            s2 = moved(int(size_xy[0] / 2), int(size_xy[1] / 2), 0)
            p = s2 @ s1 @ r @ s0
        seen_here = []
        for point in points() if places is None else places[t]:
            q = p @ np.append(point / px + centre, 1.0)
            depth = q[2] - (p @ np.append(centre, 1.0))[2]
            xy = q[:2]
            if "rlnTomoDeformationCoefficients" in row:
                grid = int(listing["rlnTomoDeformationGridSizeX"]), int(listing["rlnTomoDeformationGridSizeY"])
                xy = xy + hermite(numbers(row["rlnTomoDeformationCoefficients"]), grid, size_xy, xy)
            seen_here.append([*xy, depth * px])
        out.append(seen_here)
    return np.array(out)


def by_angle(rows: list[dict]) -> list[dict]:
    """RELION-5's rows are in the order of acquisition; ours ascend."""
    return sorted(rows, key=lambda row: row["rlnTomoNominalStageTiltAngle"])


def tables(form: str, folder: Path) -> tuple[dict, list[dict]]:
    if form == "relion5":
        listing = starfile.read(folder / "tilt_series.star", always_dict=True)["global"].iloc[0].to_dict()
        own = starfile.read(folder / listing["rlnTomoTiltSeriesStarFile"], always_dict=True)
        return listing, by_angle(next(iter(own.values())).to_dict("records"))
    blocks = starfile.read(folder / "tomograms.star", always_dict=True)
    return blocks["global"].iloc[0].to_dict(), blocks["TS_1"].to_dict("records")


@pytest.mark.parametrize("form", [RELION5, RELION4], ids=lambda f: f.name)
@pytest.mark.parametrize("size_xy", SIZES_XY)
@pytest.mark.parametrize("local", [False, True], ids=["rigid", "deformed"])
def test_relion_sees_points_where_we_see_them(form, size_xy, local, tmp_path):
    ours = phantom_series(size_xy=size_xy, x_tilt=True, magnification=local, warp=local)
    form.write(tmp_path, [ours])
    theirs = by_relion(*tables(form.name, tmp_path), size_xy)
    inside = np.all((seen(ours)[..., :2] > 0) & (seen(ours)[..., :2] < np.array(size_xy) - 1), axis=-1)
    assert inside.sum() > 20
    assert np.abs(theirs - seen(ours))[inside].max() < 0.02


@pytest.mark.parametrize("form", [RELION5, RELION4], ids=lambda f: f.name)
@pytest.mark.parametrize("hand", [1.0, -1.0])
def test_what_is_written_comes_back(form, hand, tmp_path):
    ours = phantom_series(hand=hand, warp=True, magnification=True, **SOME)
    made = form.write(tmp_path, [ours])
    assert any("excluded" in loss for loss in made.losses)
    (back,) = form.read(tmp_path, Given(image_shape=ours.series.image_shape))
    inside = np.all((seen(ours)[..., :2] > 0) & (seen(ours)[..., :2] < np.array([95, 79])), axis=-1)
    assert np.abs(seen(back) - seen(ours))[inside].max() < 0.1
    assert back.series.hand == hand
    for a, b in zip(ours.series.tilts, back.series.tilts, strict=True):
        assert abs(a.pose.y_tilt_deg - b.pose.y_tilt_deg) < 0.01
        assert abs(a.pose.z_rot_deg - b.pose.z_rot_deg) < 0.01
        assert abs(a.ctf.defocus_u_angstrom - b.ctf.defocus_u_angstrom) < 0.1
        assert (a.acquisition > 3) == (b.acquisition > 3) or a.acquisition - b.acquisition in (0, 1)
        assert abs(a.pre_exposure - b.pre_exposure) < 1e-6
        assert abs(b.ctf.phase_shift_deg - 72.0) < 1e-6
        assert abs(b.ctf.astigmatism_angle_deg - 31.5) < 1e-6


def test_several_series_and_one_without_deformation(tmp_path):
    RELION5.write(tmp_path, [phantom_series(name="A", warp=True), phantom_series(name="B", seed=2)])
    a, b = RELION5.read(tmp_path, Given(image_shape=(80, 96)))
    assert a.warp is not None
    assert b.warp is None
    assert np.abs(seen(b) - seen(phantom_series(name="B", seed=2))).max() < 0.01


def test_tables_that_relion_and_warp_wrote(shared_data):
    base = shared_data / "formats" / "relion"
    table = base / "relion5_project" / "Tomograms" / "job009" / "tomograms.star"
    assert RELION5.recognises(table)
    assert not RELION4.recognises(table)
    warp2 = base / "relion5_particles" / "clean" / "warp2_matching_tomograms.star"
    assert RELION4.recognises(warp2)
    assert not RELION5.recognises(warp2)
    first = RELION4.read(warp2, Given())[0]
    assert first.series.name == "TS_17"
    assert len(first.series.tilts) == 41
    assert any("rotations only" in note for note in first.notes)
    tilt = min(first.series.tilts, key=lambda t: t.pre_exposure)
    # Rz(z) Ry(0) Rx(0) has its first row (cos z, -sin z, 0): 0.0767, 0.9971 is an axis at -85.6 degrees
    assert abs(tilt.pose.z_rot_deg - -85.6) < 0.02
    assert abs(tilt.pose.y_tilt_deg) < 0.05
    assert first.series.hand == -1.0
    assert abs(first.series.tilts[0].dose - 2.99) < 1e-9


def test_angles_and_matrices_of_one_relion_table_agree(shared_data):
    """The older table has both; matrices bind RELION, and angles are what they were made from."""
    base = shared_data / "formats" / "relion" / "relion4_project" / "tilt_series_metadata" / "tilt_series"
    rows = next(iter(starfile.read(base / "220728_TS_01.star", always_dict=True).values())).to_dict("records")
    for row in rows[:12]:
        p = np.array([numbers(row[f"rlnTomoProj{a}"]) for a in "XYZW"])
        r = turn(2, row["rlnTomoZRot"]) @ turn(1, row["rlnTomoYTilt"]) @ turn(0, row["rlnTomoXTilt"])
        assert np.abs(p[:3, :3] - r[:3, :3]).max() < 1e-4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoProjX #2\nTS_1 [1,2]\n", "no table"),
        ("", "not a STAR file"),
    ],
)
def test_damaged_tables_are_told(text, words, tmp_path):
    file = tmp_path / "tomograms.star"
    file.write_text(text)
    with pytest.raises((FormatError, InputError), match=words):
        RELION4.read(file, Given(image_shape=(8, 8)))


def test_matrices_that_are_no_projections_are_told(tmp_path):
    RELION4.write(tmp_path, [phantom_series()])
    file = tmp_path / "tomograms.star"
    text = file.read_text()
    first = next(word for word in text.split() if word.startswith("[") and word.count(",") == 3)
    for bad, words in (
        ("[9,9,9,9]", "mirrors or shears|no projection"),
        ("[a,b,c,d]", "4 numbers"),
        ("[1,0,0]", "4 numbers"),
    ):
        file.write_text(text.replace(first, bad, 1))
        with pytest.raises(FormatError, match=words):
            RELION4.read(file, Given(image_shape=(80, 96)))


def test_matrices_without_image_size_ask_for_it(tmp_path):
    RELION4.write(tmp_path, [phantom_series()])
    with pytest.raises(InputError, match="--image-size"):
        RELION4.read(tmp_path, Given())


def test_angles_without_image_size_ask_for_it(tmp_path):
    """rlnTomoSizeX and Y are of the specimen: of 95 pixels where the images have 96, the centre would be half a pixel beside."""
    ours = phantom_series()
    RELION5.write(tmp_path, [ours])
    with pytest.raises(InputError, match="--image-size"):
        RELION5.read(tmp_path, Given())
    (told,) = RELION5.read(tmp_path, Given(image_shape=(81, 95)))
    assert told.series.image_shape == (81, 95)
    table = tmp_path / "tilt_series.star"
    columns = {label: column.tolist() for label, column in starfile.read(table).items()}
    write_star(table, {"global": columns | {"eucImageSizeX": [97], "eucImageSizeY": [83]}})
    (known,) = RELION5.read(tmp_path, Given())
    assert known.series.image_shape == (83, 97)


def test_the_last_job_of_a_project_is_taken(tmp_path):
    for job, axis in (("job009", 84.0), ("job012", 70.0)):
        RELION5.write(tmp_path / "AlignTiltSeries" / job / "aligned_tilt_series.star", [phantom_series(axis_deg=axis)])
    assert RELION5.recognises(tmp_path)
    (found,) = RELION5.read(tmp_path, Given(image_shape=(80, 96)))
    assert abs(found.series.poses[0].z_rot_deg - 70.0) < 2.0
    assert "job012" in found.notes[0]
