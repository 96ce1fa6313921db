"""`eucentric correlate`: light-microscope images of spots at known places, over tomograms and grid maps."""

import json

import numpy as np
import pytest
import tifffile

from eucentric.errors import FormatError
from eucentric.io.fluorescence import read_light_image
from eucentric.io.landmark_files import read_landmarks
from eucentric.io.mrc import read_mrc, write_mrc
from eucentric.io.star import read_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models.tilt_series import Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.plan import Plan, all_stages
from eucentric.pipeline.status import project_status
from eucentric.viewer.project_view import volume_files
from eucentric.viewer.scene import image_layer

VOXEL = 20.0
SHAPE_ZYX = (20, 120, 160)  # 400 x 2400 x 3200 A
PIXEL = 500.0
NY, NX = 40, 50
TURN = np.radians(25.0)


@pytest.fixture
def root(tmp_path):
    """A project with one tomogram, of noise."""
    place = tmp_path / "project"
    record = Tomogram(path="reconstruct/tomograms/TS_01.mrc", voxel_size_angstrom=VOXEL, shape_zyx=SHAPE_ZYX)
    tilt = Tilt(
        nominal_tilt_deg=0.0, acquisition=0, dose=3.0, pre_exposure=0.0, pose=TiltPose(y_tilt_deg=0.0, z_rot_deg=85.0)
    )
    series = TiltSeries(name="TS_01", pixel_size_angstrom=10.0, image_shape=(240, 320), tilts=(tilt,), tomogram=record)
    (place / "reconstruct" / "tomograms").mkdir(parents=True)
    write_mrc(place / record.path, np.random.default_rng(1).normal(size=SHAPE_ZYX).astype(np.float32), VOXEL)
    for stage in ("import", "reconstruct"):
        write_tilt_series_set(place / stage / "tilt_series.star", [series], place)
    Plan.write_default(place, {}, all_stages())
    return place


def to_target(points_px, *, mirrored, scale=1.0):
    """A from the specimen centre, of pixels counted as Fiji does, from the top left: written out by hand."""
    x, y = points_px[:, 0] * PIXEL, (NY - 1 - points_px[:, 1]) * PIXEL
    x, y = x - 0.5 * NX * PIXEL, y - 0.5 * NY * PIXEL
    if mirrored:
        x = -x
    turned = np.stack([np.cos(TURN) * x - np.sin(TURN) * y, np.sin(TURN) * x + np.cos(TURN) * y], axis=1)
    return scale * turned + [150.0, -80.0]


def spot_image(spots_px, sigma=1.2):
    """(y, x) rows from the top, as TIFF files have them."""
    y, x = np.mgrid[:NY, :NX]
    image = np.full((NY, NX), 20.0)
    for sx, sy in spots_px:
        image += 900 * np.exp(-0.5 * ((x - sx) ** 2 + (y - sy) ** 2) / sigma**2)
    return image


def write_csv(path, moving, fixed, names=None, head="fluorescence_x,fluorescence_y,target_x,target_y"):
    lines = [f"name,{head}"]
    for i, row in enumerate(np.concatenate([moving, fixed], axis=1)):
        lines.append(",".join([names[i] if names else f"bead{i}", *(f"{v:.4f}" for v in row)]))
    path.write_text("\n".join(lines) + "\n")
    return path


LANDMARKS = np.array([[5.0, 6], [44, 8], [40, 33], [8, 35], [26, 14], [15, 22], [33, 21]])
SPOT = np.array([[25.5, 20.2]])


def session(tmp_path, *, mirrored=False, noise=0.0, light=None, scale=1.0):
    image = tmp_path / "light.tif"
    tifffile.imwrite(image, (spot_image(SPOT) if light is None else light).astype(np.uint16))
    places = to_target(LANDMARKS, mirrored=mirrored, scale=scale) + np.random.default_rng(2).normal(
        0, noise or 1e-9, (7, 2)
    )
    voxels = places / VOXEL + np.array([SHAPE_ZYX[2] // 2, SHAPE_ZYX[1] // 2])
    return image, write_csv(tmp_path / "landmarks.csv", LANDMARKS, voxels)


def middle(volume, header):
    """x, y in A from the specimen centre of what is bright."""
    plane = np.asarray(volume, np.float64)[volume.shape[0] // 2]
    bright = np.maximum(plane - 0.4 * plane.max(), 0)
    y, x = (np.average(grid, weights=bright) for grid in np.indices(plane.shape))
    size = header.pixel_size_angstrom
    return np.array([(x - plane.shape[1] // 2) * size, (y - plane.shape[0] // 2) * size])


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_spot_lies_where_it_is_in_the_tomogram(program, root, tmp_path, mirrored):
    image, landmarks = session(tmp_path, mirrored=mirrored)
    code, out, err = program(
        "correlate", root, "--fluorescence", image, "--landmarks", landmarks, "--series", "TS_01", "--pixel-size-angstrom",
        PIXEL, "--name", "gfp", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    volume, header = read_mrc(root / "correlate" / "gfp" / "TS_01_channel1.mrc")
    assert header.pixel_size_angstrom == PIXEL / 4
    # over all of the tomogram, its middle at voxel n // 2
    extents = np.array(volume.shape) * PIXEL / 4
    assert (extents >= np.array(SHAPE_ZYX) * VOXEL).all()
    assert (np.array(volume.shape) % 2 == 1).all()
    np.testing.assert_allclose(middle(volume, header), to_target(SPOT, mirrored=mirrored)[0], atol=0.1 * PIXEL)
    np.testing.assert_array_equal(volume[0], volume[-1])
    told = json.loads(out.splitlines()[-1])
    assert told["mirrored"] == mirrored
    assert told["scale"] == pytest.approx(1.0, abs=1e-4)
    assert told["rms_angstrom"] < 0.1
    assert f"{'' if mirrored else 'not '}mirrored." in out
    assert "note:" not in out
    assert (root / "correlate" / "gfp" / "overlay_channel1.png").stat().st_size > 5000
    assert [r.folder for r in project_status(root).results] == ["correlate/gfp"]
    # the viewer shows it, in colour over the tomogram
    shown = volume_files(root, "TS_01")[-1]
    assert shown.title == "Light: gfp, channel1"
    shader, tomogram = (image_layer(f, "", (3.0, 9.0), True) for f in (shown, volume_files(root, "TS_01")[0]))
    assert "emitRGBA" in shader["shader"]
    assert shader["shaderControls"]["normalized"] == {"range": [3.0, 9.0]}
    assert "emitGrayscale" in tomogram["shader"]


def test_a_wrong_landmark_is_named_and_does_no_harm(program, root, tmp_path):
    image, landmarks = session(tmp_path, noise=30.0)
    lines = landmarks.read_text().splitlines()
    row = lines[3].split(",")
    lines[3] = ",".join([*row[:3], str(float(row[3]) + 200), row[4]])  # 4000 A
    landmarks.write_text("\n".join(lines))
    code, out, _ = program(
        "correlate", root, "--fluorescence", image, "--landmarks", landmarks, "--series", "TS_01", "--pixel-size-angstrom", PIXEL
    )  # fmt: skip
    assert code == 0
    assert "note: Found wrong and left out: bead2. Look at them again." in out
    table = read_star(root / "correlate" / "light" / "landmarks.star")["landmarks"]
    assert table["eucLandmarkUsed"].tolist() == [1, 1, 0, 1, 1, 1, 1]
    assert table["eucLandmarkErrorAngst"][2] == pytest.approx(4000, rel=0.1)
    assert table["eucLandmarkErrorAngst"].drop(2).max() < 100
    about = json.loads((root / "correlate" / "light" / "registration.json").read_text())
    assert 5 < about["sigma_at_middle_angstrom"] < 60
    assert about["left_out_rms_angstrom"] > about["rms_angstrom"]


def test_a_stack_with_depth_is_registered_in_space(program, root, tmp_path):
    step, sections = 800.0, 7
    spot = np.array([24.0, 19.0, 4.0])
    y, x = np.mgrid[:NY, :NX]
    blob = 900 * np.exp(-0.5 * ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 1.2**2)
    stack = np.stack([blob * np.exp(-0.5 * ((k - spot[2]) / 0.8) ** 2) for k in range(sections)]).astype(np.uint16)
    image = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        image,
        stack[None],
        photometric="minisblack",
        metadata={
            "axes": "CZYX",
            "PhysicalSizeX": PIXEL / 1e4, "PhysicalSizeXUnit": "µm",
            "PhysicalSizeZ": step / 1e4, "PhysicalSizeZUnit": "µm",
            "Channel": {"Name": ["GFP tag"]},
        },
    )  # fmt: skip

    def place(points):
        flat = to_target(points[:, :2], mirrored=False)
        return np.concatenate([flat, (points[:, 2:] - 4.0) * step + 40.0], axis=1)

    moving = np.array([[5.0, 6, 1], [44, 8, 5], [40, 33, 2], [8, 35, 6], [26, 14, 0], [15, 22, 3]])
    voxels = place(moving) / VOXEL + np.array(SHAPE_ZYX[::-1]) // 2
    head = "fluorescence_x,fluorescence_y,fluorescence_z,target_x,target_y,target_z"
    landmarks = write_csv(tmp_path / "landmarks.csv", moving, voxels, head=head)
    code, out, err = program(
        "correlate", root, "--fluorescence", image, "--landmarks", landmarks, "--series", "TS_01", "--json"
    )
    assert (code, err) == (0, "")
    assert json.loads(out.splitlines()[-1])["dimensions"] == 3
    volume, header = read_mrc(root / "correlate" / "stack" / "TS_01_GFP-tag.mrc")
    z, y, x = np.unravel_index(np.argmax(volume), volume.shape)
    found = (np.array([x, y, z]) - np.array(volume.shape[::-1]) // 2) * header.pixel_size_angstrom
    np.testing.assert_allclose(found, place(spot[None])[0], atol=1.1 * header.pixel_size_angstrom)


def test_an_image_goes_over_a_grid_map_to_the_tomogram(program, root, tmp_path):
    map_pixel = 250.0
    grid_map = tmp_path / "atlas.mrc"
    write_mrc(grid_map, np.random.default_rng(3).normal(size=(160, 200)).astype(np.float32), map_pixel)
    image, _ = session(tmp_path)
    in_map = to_target(LANDMARKS, mirrored=True) / map_pixel + [100, 80]
    first = write_csv(tmp_path / "first.csv", LANDMARKS, in_map)
    code, _, err = program(
        "correlate", root, "--fluorescence", image, "--landmarks", first, "--map", grid_map, "--pixel-size-angstrom", PIXEL,
        "--name", "on-map",
    )  # fmt: skip
    assert (code, err) == (0, "")
    volume, header = read_mrc(root / "correlate" / "on-map" / "map_channel1.mrc")
    assert (volume.shape, header.pixel_size_angstrom) == ((1, 160, 200), map_pixel)
    y, x = np.unravel_index(np.argmax(volume[0]), volume.shape[1:])
    np.testing.assert_allclose([x, y], to_target(SPOT, mirrored=True)[0] / map_pixel + [100, 80], atol=1.0)
    # the map lies in the tomogram turned by a quarter: x -> y, y -> -x
    corners = np.array([[90.0, 70], [110, 72], [112, 91], [95, 88], [101, 80]])
    offset = (corners - [100, 80]) * map_pixel
    places = np.stack([-offset[:, 1], offset[:, 0]], axis=1)
    second = write_csv(tmp_path / "second.csv", corners, places)
    code, _, err = program(
        "correlate", root, "--after", "on-map", "--landmarks", second, "--series", "TS_01", "--target-units", "angstrom"
    )
    assert (code, err) == (0, "")
    volume, header = read_mrc(root / "correlate" / "on-map_TS_01" / "TS_01_channel1.mrc")
    sx, sy = to_target(SPOT, mirrored=True)[0]
    np.testing.assert_allclose(middle(volume, header), [-sy, sx], atol=0.1 * PIXEL)
    code, _, err = program("correlate", root, "--after", "gone", "--landmarks", second, "--series", "TS_01")
    assert code == 2
    assert "has no registration called gone; it has on-map, on-map_TS_01." in err


def test_beads_of_both_images_refine_rough_landmarks(program, root, tmp_path):
    generator = np.random.default_rng(9)
    image, landmarks = session(tmp_path, noise=150.0)
    beads = generator.uniform([2, 2], [NX - 3, NY - 3], (30, 2))
    (tmp_path / "light.csv").write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in beads))
    voxels = to_target(beads, mirrored=False) / VOXEL + np.array([SHAPE_ZYX[2] // 2, SHAPE_ZYX[1] // 2])
    shuffled = generator.permutation(voxels)[:25]
    (tmp_path / "dark.csv").write_text("x;y\n" + "\n".join(f"{x};{y}" for x, y in shuffled))
    options = ("--fluorescence", image, "--landmarks", landmarks, "--series", "TS_01", "--pixel-size-angstrom", PIXEL)
    _, out, _ = program("correlate", root, *options, "--json")
    rough = json.loads(out.splitlines()[-1])["matrix"]
    code, out, err = program(
        "correlate", root, *options, "--fluorescence-beads", tmp_path / "light.csv", "--target-beads", tmp_path / "dark.csv",
        "--overwrite", "--json",
    )  # fmt: skip
    assert (code, err) == (0, "")
    told = json.loads(out.splitlines()[-1])
    assert told["beads"]["pairs"] == 25
    truth = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    assert np.abs(np.array(told["matrix"]) - truth).max() < 1e-4 < np.abs(np.array(rough) - truth).max()
    code, _, err = program("correlate", root, *options, "--target-beads", tmp_path / "dark.csv", "--overwrite")
    assert code == 2
    assert "Beads are needed of both images" in err


def refused(program, root, *options):
    code, _, err = program("correlate", root, *options)
    assert code == 2
    assert not (root / "correlate").exists()
    return err


def test_wrong_input_is_told_in_words(program, root, tmp_path):
    image, landmarks = session(tmp_path)
    pixel = ("--pixel-size-angstrom", PIXEL)
    over = ("--fluorescence", image, "--series", "TS_01", "--landmarks")
    assert "does not tell its pixel size" in refused(program, root, *over, landmarks)
    few = write_csv(tmp_path / "few.csv", LANDMARKS[:2], LANDMARKS[:2])
    assert "2 landmarks were given" in refused(program, root, *over, few, *pixel)
    assert "Give one target" in refused(program, root, "--fluorescence", image, "--landmarks", landmarks, *pixel)
    assert "Give the image" in refused(program, root, "--series", "TS_01", "--landmarks", landmarks, *pixel)
    assert "TS_09" in refused(
        program, root, "--fluorescence", image, "--series", "TS_09", "--landmarks", landmarks, *pixel
    )
    assert "cannot be a name" in refused(program, root, *over, landmarks, *pixel, "--name", "../x")
    away = write_csv(tmp_path / "away.csv", LANDMARKS, LANDMARKS * 25 + 20_000)
    assert "does not reach TS_01 anywhere" in refused(program, root, *over, away, *pixel)
    assert "of them. Give a larger" in refused(program, root, *over, landmarks, *pixel, "--voxel-size-angstrom", 0.1)
    assert "--pixel-size-angstrom" in refused(program, root, *over, landmarks, "--pixel-size-angstrom", "-3")
    code, _, _ = program("correlate", root, *over, landmarks, *pixel)
    assert code == 0
    code, _, err = program("correlate", root, *over, landmarks, *pixel)
    assert code == 2
    assert "--overwrite" in err


def test_pixel_sizes_that_do_not_fit_are_noted(program, root, tmp_path):
    image, landmarks = session(tmp_path, scale=1.3)
    over = ("--fluorescence", image, "--landmarks", landmarks, "--series", "TS_01", "--pixel-size-angstrom", PIXEL)
    _, out, _ = program("correlate", root, *over)
    assert "note: The image is 1.30 times as large" in out
    _, out, _ = program("correlate", root, *over, "--kind", "rigid", "--overwrite", "--json")
    told = json.loads(out.splitlines()[-1])
    assert (told["kind"], told["scale"]) == ("rigid", pytest.approx(1.0))
    assert told["rms_angstrom"] > 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("name,fluorescence_x,fluorescence_y,target_x,target_y\n", "holds no landmark"),
        ("name,fluorescence_x,target_x,target_y\na,1,2,3\n", "has no column fluorescence_y"),
        ("fluorescence_x,fluorescence_y,target_x,target_y\n1,2,3,four\n", "landmark 1: `four` is not a number"),
        ("fluorescence_x,fluorescence_y,target_x,target_y\n1,2,3\n", "3 values below 4 names"),
        ("name,fluorescence_x,fluorescence_y,target_x,target_y\na,1,2,3,4\na,1,2,3,4\n", "several landmarks called a"),
    ],
)
def test_tables_of_landmarks_that_are_none(tmp_path, text, words):
    path = tmp_path / "landmarks.csv"
    path.write_text(text)
    with pytest.raises(FormatError, match=words):
        read_landmarks(path)


def test_a_star_table_says_the_same_as_a_csv_one(tmp_path):
    pairs = read_landmarks(write_csv(tmp_path / "a.csv", LANDMARKS, 2 * LANDMARKS))
    rows = "\n".join(f"p{i} {a} {b} {2 * a} {2 * b}" for i, (a, b) in enumerate(LANDMARKS))
    names = ("eucLandmark", "eucFluorescenceX", "eucFluorescenceY", "eucTargetX", "eucTargetY")
    (tmp_path / "a.star").write_text("data_landmarks\n\nloop_\n" + "".join(f"_{n}\n" for n in names) + rows + "\n")
    other = read_landmarks(tmp_path / "a.star")
    np.testing.assert_allclose(other.moving, pairs.moving)
    np.testing.assert_allclose(other.fixed, pairs.fixed)
    assert other.names[0] == "p0"


def test_light_images_of_several_writers(tmp_path):
    values = np.random.default_rng(4).integers(0, 4000, (2, 3, 8, 9)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "fiji.tif", np.moveaxis(values, 0, 1), imagej=True, resolution=(1 / 0.05, 1 / 0.05),
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 0.3},
    )  # fmt: skip
    image = read_light_image(tmp_path / "fiji.tif")
    np.testing.assert_array_equal(image.values, values[:, :, ::-1])
    assert image.pixel_size_angstrom == pytest.approx(500.0)
    assert image.step_angstrom == pytest.approx(3000.0)
    assert image.channels == ("channel1", "channel2")
    tifffile.imwrite(tmp_path / "pages.tif", values[0], photometric="minisblack")
    image = read_light_image(tmp_path / "pages.tif")
    assert image.values.shape == (1, 3, 8, 9)
    assert (image.pixel_size_angstrom, image.step_angstrom) == (None, None)
    tifffile.imwrite(tmp_path / "photo.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FormatError, match="is a colour picture"):
        read_light_image(tmp_path / "photo.tif")
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(FormatError, match="is not a TIFF image"):
        read_light_image(tmp_path / "text.tif")
