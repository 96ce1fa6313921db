"""`eucentric figure`: what is drawn, at which size, and what is refused."""

import json
from io import BytesIO

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from PIL import Image

from eucentric.cli.main import run
from eucentric.errors import InputError, ShapeError
from eucentric.figures.canvas import new_figure, scale_bar_length
from eucentric.figures.overview import compared_correlations
from eucentric.figures.publication import publication_figure
from eucentric.figures.slices import gallery
from eucentric.geometry import Rotation
from eucentric.io.mrc import write_mrc
from eucentric.io.particles import write_particles
from eucentric.io.star import write_star
from eucentric.io.tilt_series import write_tilt_series_set
from eucentric.models import ParticleSet
from eucentric.models.tilt_series import CtfFit, Tilt, TiltPose, TiltSeries, Tomogram
from eucentric.pipeline.series_figures import alignment_figure, ctf_figure
from eucentric.pipeline.volume_figures import PicksWish, SliceWish, map_gallery, particle_gallery, slice_figure

VOXEL = 10.0
SHAPE = (20, 40, 50)
PLACES = np.array([[-100.0, 50.0, 0.0], [60.0, -70.0, 30.0], [120.0, 90.0, -80.0]])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project of one series with tomogram, alignment and fits; picks in it; two averages."""
    place = tmp_path_factory.mktemp("figures")
    (place / "eucentric.toml").write_text("")
    rng = np.random.default_rng(0)
    volume = rng.normal(size=SHAPE).astype(np.float32)
    for x, y, z in (PLACES / VOXEL + np.array(SHAPE[::-1]) // 2).astype(int):
        volume[z, y, x] = -50.0  # dark as protein is
    write_mrc(place / "tomogram.mrc", volume, VOXEL)
    picks = ParticleSet.build(
        "A", PLACES, rotations=Rotation.random(3, rng).matrices, kinds=["a", "b", "a"], scores=[1.0, 3.0, 2.0]
    )
    write_particles(place / "picks.star", picks, "relion5")
    angles = np.linspace(-40.0, 40.0, 9)
    tilts = []
    for i, angle in enumerate(angles):
        write_mrc(place / f"{i}.mrc", rng.normal(size=(30, 36)).astype(np.float32), 4.0)
        tilts.append(
            Tilt(
                nominal_tilt_deg=float(angle), acquisition=i, dose=3.0, pre_exposure=3.0 * i, image=f"{i}.mrc",
                pose=TiltPose(y_tilt_deg=float(angle) + 0.5, z_rot_deg=85.0, x_shift_angstrom=3.0 * i),
                ctf=CtfFit(defocus_u_angstrom=30000.0, defocus_v_angstrom=29000.0 + i, defocus_sigma_angstrom=50.0),
            )
        )  # fmt: skip
    series = TiltSeries(name="A", pixel_size_angstrom=4.0, image_shape=(30, 36), tilts=tuple(tilts))
    for stage in ("align", "ctf"):
        write_tilt_series_set(place / stage / "tilt_series.star", [series], place)
        (place / stage / "curves").mkdir()
    made = series.replace(tomogram=Tomogram(path="tomogram.mrc", voxel_size_angstrom=VOXEL, shape_zyx=SHAPE))
    write_tilt_series_set(place / "reconstruct" / "tilt_series.star", [made], place)
    frequency = np.linspace(0.01, 0.1, 20)
    rows = np.tile(np.cos(100 * frequency), (9, 1))
    np.savez(place / "ctf/curves/A.npz", tilt_deg=angles, frequency=frequency, spectrum=rows, model=rows, quality=rows)
    followed = {"track_tilt": np.repeat(np.arange(9), 2), "track_outlier": np.zeros(18, bool)}
    np.savez(place / "align/curves/A.npz", tilt_deg=angles, track_residual=np.full((18, 2), 3.0), **followed)
    z, y, x = np.indices((24, 24, 24)) - 12
    ball = (np.sqrt(z**2 + y**2 + x**2) < 7).astype(np.float32)
    for number in (1, 2):
        folder = place / f"average{number}"
        folder.mkdir()
        noise = 0.01 * rng.normal(size=ball.shape)
        write_mrc(folder / "map.mrc", (ball + noise).astype(np.float32), 4.0)
        write_mrc(folder / "mask.mrc", ball, 4.0)
        write_particles(folder / "particles.star", picks, "relion5")
        curve = 1.0 / (1.0 + np.exp((frequency - 0.05 * number / 2) / 0.005))
        names = [f"rlnFourierShellCorrelation{n}" for n in ("Corrected", "MaskedMaps", "UnmaskedMaps")]
        table = {"rlnResolution": frequency.tolist()} | {name: curve.tolist() for name in names}
        write_star(folder / "fsc.star", {"general": {"rlnFinalResolution": [20.0 * number]}, "fsc": table})
    write_mrc(place / "average1" / "local_resolution.mrc", (10.0 + np.abs(z) + 0.0 * y).astype(np.float32), 4.0)
    return place


@pytest.mark.parametrize(
    "arguments",
    [
        ["slice", "tomogram.mrc", "--thickness", "30"],
        ["slice", ".", "--axis", "x", "--at", "-50"],
        ["gallery", "picks.star", "--tomograms", ".", "--box", "100", "--turned"],
        ["gallery", "average1", "average2", "--projected"],
        ["surface", "average1", "--local-resolution"],
        ["surface", "average2"],
        ["local-resolution", "average1"],
        ["fsc", "average1", "average2"],
        ["fsc", "average1"],
        ["orientation", "picks.star", "--symmetry", "C2"],
        ["orientation", "average1"],
        ["tilt-series", ".", "--count", "5"],
        ["alignment", "."],
        ["ctf", ".", "--tilt", "0", "--tilt", "-30"],
        ["defocus", "ctf/tilt_series.star"],
    ],
)
def test_every_figure_has_the_width_of_a_column(root, tmp_path, capsys, monkeypatch, arguments):
    monkeypatch.chdir(root)
    out = tmp_path / "figure.png"
    assert run(["figure", *arguments, "--output", str(out), "--width-mm", "85", "--dpi", "60", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["output"] == str(out)
    image = np.asarray(Image.open(out).convert("L"))
    assert image.shape[1] == pytest.approx(85.0 / 25.4 * 60, abs=1)
    assert image.std() > 5.0
    assert run(["figure", *arguments, "--output", str(out)]) == 2  # it is there
    assert "--overwrite" in capsys.readouterr().err


def test_a_slice_is_the_mean_of_its_slab_and_cuts_circles_out_of_balls(root):
    picks = PicksWish(picks=root / "picks.star", diameter_angstrom=100.0)
    figure = slice_figure(root, "A", SliceWish(at_angstrom=15.0, thickness_angstrom=20.0), picks)
    axes = figure.axes[0]
    image = np.asarray(axes.images[0].get_array())
    volume = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_allclose(image[0], volume[11:13, 0].mean(axis=0), atol=1e-6)  # 10 to 20 A over voxel 10
    circles = [c for c in axes.collections if isinstance(c, EllipseCollection)]
    found = {tuple(np.round(np.asarray(c.get_offsets())[0])): 2.0 * float(c._widths[0]) for c in circles}
    # centres 10 A below and 10 A above the slab: circles of 2 sqrt(50^2 - 10^2); the third lies too deep
    assert found == {(-100.0, 50.0): pytest.approx(97.98, abs=0.01), (60.0, -70.0): pytest.approx(97.98, abs=0.01)}
    across, up = axes.get_xlim(), axes.get_ylim()
    assert across == (-255.0, 245.0)  # voxel 25 of 50 is centred at 0
    assert up == (-205.0, 195.0)
    assert [t.get_text() for t in axes.texts] == ["100 Å"]
    bar = axes.patches[0]
    assert bar.get_width() == pytest.approx(100.0)


def test_particles_of_a_gallery_are_centred_and_best_first(root):
    plain = {"box_angstrom": 70.0, "thickness_angstrom": 0.0, "columns": 3}
    figure = particle_gallery(root / "picks.star", root, count=2, **plain)
    shown = [np.asarray(axes.images[0].get_array().filled(np.nan)) for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["3", "2"]
    for image in shown:
        assert np.unravel_index(np.nanargmin(image), image.shape) == (3, 3)
    turned = particle_gallery(root / "picks.star", root, count=2, turned=True, **plain)
    image = np.asarray(turned.axes[0].images[0].get_array().filled(np.nan))
    assert np.unravel_index(np.nanargmin(image), image.shape) == (3, 3)  # the centre stays where it is
    maps = map_gallery([root / "average1", root / "average2"])
    assert [axes.get_title() for axes in maps.axes] == ["average1", "average2"]
    assert np.asarray(maps.axes[0].images[0].get_array())[12, 12] < -0.9  # protein dark


def test_numbers_of_an_alignment_and_of_spectra(root):
    shifts, angles, axis, residuals = alignment_figure(root, None).axes
    np.testing.assert_allclose(shifts.lines[0].get_ydata(), 3.0 * np.arange(9))
    np.testing.assert_allclose(angles.lines[0].get_ydata(), 0.5)
    np.testing.assert_allclose(axis.lines[0].get_ydata(), 85.0)
    np.testing.assert_allclose([bar.get_height() for bar in residuals.patches], np.sqrt(18.0))
    titles = [axes.get_title(loc="left") for axes in ctf_figure(root, "A", [-12.0, 38.0]).axes]
    assert [t for t in titles if t] == ["-10.0°", "40.0°"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["slice", "none.mrc"], "does not exist"),
        (["slice", ".", "--series", "B"], "no tomogram `B`"),
        (["slice", ".", "--at", "500"], "goes from -100 to 90 A"),
        (["slice", ".", "--picks", "picks.star"], "--diameter"),
        (["slice", ".", "--picks", "picks.star", "--diameter", "-3"], "positive number"),
        (["slice", ".", "--picks", "picks.star", "--diameter", "90", "--kind", "x"], "Its kinds are: a, b"),
        (["gallery"], "Name a list"),
        (["gallery", "picks.star", "--tomograms", "."], "--box"),
        (["gallery", "picks.star", "--tomograms", ".", "--box", "0"], "positive number"),
        (["gallery", "align"], "neither map.mrc nor class_1.mrc"),
        (["gallery", "average1", "tomogram.mrc"], "several sizes"),
        (["gallery", "average1", "--columns", "0"], "one at least"),
        (["surface", "align"], "no map.mrc"),
        (["surface", "average1", "--level", "9"], "No surface lies"),
        (["local-resolution", "average2"], "Run `eucentric local-resolution"),
        (["fsc"], "Name the folder"),
        (["fsc", "average1", "--curve", "best"], "no curve `best`"),
        (["fsc", "picks.star"], "no correlation"),
        (["orientation", "picks.star", "--kind", "x"], "no particle with an orientation"),
        (["tilt-series", "average1"], "has no results"),
        (["tilt-series", ".", "--count", "0"], "one at least"),
        (["alignment", ".", "--series", "B"], "no tilt series `B`"),
        (["ctf", ".", "--tilt", "75"], "no tilt near 75"),
        (["ctf", "none"], "does not exist"),
    ],
)
def test_figures_that_cannot_be_drawn(root, tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(root)
    assert run(["figure", *arguments, "--output", str(tmp_path / "f.png")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "f.png").exists()


def test_formats_and_sizes():
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1])
    axes.set_xlabel("a large word", fontsize=20)
    pdf, svg, png = (publication_figure(figure, form, width_mm=85.0, dpi=100) for form in ("pdf", "svg", "png"))
    assert pdf.startswith(b"%PDF")
    assert b"a large word</text>" in svg  # letters stay letters
    assert axes.xaxis.label.get_fontsize() == 7.0
    assert Image.open(BytesIO(png)).size[0] == 334
    assert publication_figure(figure, "svg", width_mm=85.0) == publication_figure(figure, "svg", width_mm=85.0)
    for form, settings, words in (
        ("gif", {}, "png, pdf, svg"),
        ("png", {"width_mm": 5.0}, "Columns"),
        ("png", {"dpi": 1}, "dots"),
    ):
        with pytest.raises(InputError, match=words):
            publication_figure(figure, form, **settings)
    with pytest.raises(ShapeError, match="one at least"):
        gallery([], [], 1.0, columns=2)
    with pytest.raises(ShapeError, match="No correlation"):
        compared_correlations([])
    assert scale_bar_length(500.0) == 100.0


def test_names_that_are_no_figures_are_refused_first(tmp_path, capsys):
    assert run(["figure", "slice", "none.mrc", "--output", str(tmp_path / "f.jpg")]) == 2
    assert "ends in .png, .pdf, .svg" in capsys.readouterr().err
