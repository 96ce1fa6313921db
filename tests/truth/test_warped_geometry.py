"""Magnified and locally deformed images: blobs that were written down come back to where they are.

The images here are made by formula: the deformation is a polynomial that is inverted pixel by pixel, and no spline, grid
or reading of the product takes part.
"""

import numpy as np
import pytest
import torch
from scipy.interpolate import make_interp_spline

from eucentric.errors import FormatError, InputError, ShapeError
from eucentric.geometry import ImageWarp, TiltGeometry, rotation_x, rotation_y, rotation_z
from eucentric.io import read_image_warp, write_image_warp
from eucentric.models import CtfFit, Optics, TiltPose
from eucentric.projection import coverage_of_tilts, resample_tilts
from eucentric.projection.resampling import places_read
from eucentric.reconstruction import ReconstructParams, reconstruct_slabs, reconstruct_volume
from eucentric.reconstruction.correct_ctf import correct_ctf
from eucentric.reconstruction.fourier_inversion import reconstruct_boxes
from eucentric.reconstruction.invert_ctf import invert_ctf, recorded_weights
from eucentric.reconstruction.iterate import Stopping
from eucentric.reconstruction.reproject_volume import reproject_volume
from eucentric.reconstruction.signal_to_noise import assumed_signal_to_noise
from eucentric.simulation import Phantom, asymmetric_phantom

PIXEL, VOXEL = 6.0, 8.0
SIZE = (176, 187)
PHANTOM = asymmetric_phantom(330.0)
PLAIN = ReconstructParams()


def _geometry(tilts, *, x_tilt=0.0, axis=84.3, magnified=0.05):
    generator = np.random.default_rng(1)
    return TiltGeometry.build(
        tilts,
        z_rot_deg=axis,
        x_tilt_deg=x_tilt,
        shifts_angstrom=generator.normal(0.0, 20.0, (len(tilts), 2)),
        magnification=1.0 + magnified * generator.uniform(-1.0, 1.0, len(tilts)),
    )


class Bend:
    """d(u) = A quadratic(u), other for every tilt, up to 5 pixels at the edges of the image."""

    def __init__(self, tilts, size=SIZE, pixel=PIXEL, strength=5.0):
        self.factors = np.random.default_rng(2).uniform(-1.0, 1.0, (tilts, 2, 4)) * strength * pixel / 2.0
        self.half = 0.5 * min(size) * pixel

    def __call__(self, t, u):
        x, y = u[..., 0] / self.half, u[..., 1] / self.half
        terms = np.stack([x * x, y * y, x * y, np.ones_like(x)], -1)
        return terms @ self.factors[t].T

    def sampled(self, size=SIZE, pixel=PIXEL, grid=(13, 16)):
        y, x = (pixel * (np.linspace(0, n - 1, g) - n // 2) for n, g in zip(size, grid, strict=True))
        points = np.stack(np.meshgrid(x, y), -1)
        return ImageWarp.build([self(t, points) for t in range(len(self.factors))], size, pixel)


def _images(geometry, bend=None, *, size=SIZE, pixel=PIXEL, phantom=PHANTOM, dtype=torch.float32):
    """Image t at x shows the line integral at u, with x = u + d(u)."""
    y, x = (pixel * (np.arange(n) - n // 2) for n in size)
    seen = np.stack(np.meshgrid(x, y), -1)
    out = np.zeros((len(geometry), *size))
    for t in range(len(geometry)):
        u = seen.copy()
        for _ in range(12 if bend else 0):
            u = seen - bend(t, u)
        m = geometry.magnification[t]
        turn = rotation_z(geometry.z_rot_deg[t]) @ rotation_y(geometry.y_tilt_deg[t])
        centres = m * (phantom.positions_angstrom @ (turn @ rotation_x(geometry.x_tilt_deg[t])).T)[:, :2]
        for centre, weight, sigma in zip(
            centres + geometry.shifts_angstrom[t], phantom.weights, phantom.sigmas_angstrom, strict=True
        ):
            away = ((u - centre) ** 2).sum(-1) / (m * sigma) ** 2
            out[t] += weight * sigma * np.sqrt(2 * np.pi) * np.exp(-0.5 * away)
    return torch.from_numpy(out).to(dtype)


def _reconstruct(images, geometry, shape=(100, 110, 112), params=PLAIN, **options):
    return reconstruct_volume(
        images, geometry, pixel_size=PIXEL, volume_shape=shape, voxel_size=VOXEL, params=params, **options
    )


def _distances(volume, phantom=PHANTOM, voxel=VOXEL):
    """Distance in voxels from each blob to the brightness-weighted middle of the peak found there."""
    centre = np.array(volume.shape) // 2
    out = []
    for position in phantom.positions_angstrom:
        at = position[::-1] / voxel + centre
        corner = np.rint(at).astype(int) - 3
        box = volume[tuple(slice(c, c + 7) for c in corner)].numpy()
        weight = np.clip(box - 0.5 * box.max(), 0.0, None)
        middle = np.array([(weight * axis).sum() for axis in np.mgrid[:7, :7, :7]]) / weight.sum()
        out.append(np.linalg.norm(middle + corner - at))
    return np.array(out)


def _error(got, expected):
    return float((got - expected).norm() / expected.norm())


# --- the field


@pytest.mark.parametrize("grid", [(5, 4), (2, 3), (1, 7), (4, 1), (3, 2), (1, 1)])
def test_the_field_is_the_natural_spline_through_its_grid(grid):
    generator = np.random.default_rng(3)
    values, size = generator.normal(size=(2, *grid, 2)), (101, 84)
    column, row = generator.uniform(0, 83, 60), generator.uniform(0, 100, 60)
    position = torch.from_numpy(np.stack([column - 42, row - 50], -1) * 3.0)

    def line(n, points, at):
        if len(points) == 1:
            return points[0]
        natural = {"k": 3, "bc_type": "natural"} if len(points) > 2 else {"k": 1}
        return make_interp_spline(np.linspace(0, n - 1, len(points)), points, **natural)(at)

    expected = [
        line(84, [line(101, values[1, :, i], r) for i in range(grid[1])], c) for c, r in zip(column, row, strict=True)
    ]
    got = ImageWarp.build(values, size, 3.0).at(1, position)
    np.testing.assert_allclose(got.numpy(), np.array(expected), rtol=0, atol=1e-12)


def test_beyond_the_edges_the_field_goes_on_straight():
    warp = Bend(1).sampled(grid=(4, 5))
    edge = torch.tensor([(SIZE[1] - 1 - SIZE[1] // 2) * PIXEL, 31.0], dtype=torch.float64)
    step = torch.tensor([1e-3, 0.0], dtype=torch.float64)
    slope = (warp.at(0, edge) - warp.at(0, edge - step)) / 1e-3
    far = warp.at(0, edge + 1e5 * step)
    assert float(slope.norm()) > 0.01
    torch.testing.assert_close((far - warp.at(0, edge)) / 100.0, slope, rtol=0, atol=1e-6)


def test_no_second_derivative_passes_the_bound():
    values = np.random.default_rng(5).normal(0.0, 10.0, (3, 5, 6, 2))
    warp = ImageWarp.build(values, (81, 101), 2.0)
    generator = np.random.default_rng(6)
    at = torch.from_numpy(np.stack([generator.uniform(-90, 90, 3000), generator.uniform(-70, 70, 3000)], -1))
    angle = torch.from_numpy(generator.uniform(0, 6.3, 3000))
    step = 0.5 * torch.stack([angle.cos(), angle.sin()], -1)
    second = max(
        float(((warp.at(t, at + step) - 2 * warp.at(t, at) + warp.at(t, at - step)) / 0.25).abs().max())
        for t in range(3)
    )
    assert 0.1 * warp.curvature_bound() < second < warp.curvature_bound()


def test_reading_the_field_bilinearly_moves_no_place_by_a_hundredth_of_a_pixel():
    geometry, bend = _geometry([0.0, 40.0], axis=31.0), Bend(2, (1000, 1024), 2.0, 10.0)
    warp = bend.sampled((1000, 1024), 2.0, (7, 6))
    for t in range(2):
        got = torch.stack(places_read(geometry, t, (1000, 1024), 2.0, (611, 602), 3.5, warp), -1)
        y, x = (3.5 * (np.arange(n) - n // 2) for n in (611, 602))
        u = np.stack(np.meshgrid(x, y), -1) @ rotation_z(31.0)[:2, :2].T * geometry.magnification[t]
        c = u + geometry.shifts_angstrom[t]
        exact = (c + warp.at(t, torch.from_numpy(c)).numpy()) / 2.0 + [512, 500]
        error = np.hypot(*np.moveaxis(got.numpy() - exact, -1, 0)).max()
        assert 1e-5 < error < 0.01


def test_bad_fields_are_refused():
    with pytest.raises(ShapeError, match="grid y"):
        ImageWarp.build(np.zeros((2, 3, 3)), SIZE, 1.0)
    with pytest.raises(InputError, match="NaN"):
        ImageWarp.build(np.full((2, 3, 3, 2), np.nan), SIZE, 1.0)
    with pytest.raises(ShapeError, match="2 images"):
        _reconstruct(torch.zeros(1, 16, 16), TiltGeometry.build([0.0]), (4, 8, 8), warp=Bend(2).sampled())
    with pytest.raises(InputError, match="above 0"):
        TiltGeometry.build([0.0], magnification=-1.0)


# --- magnification


def test_the_magnification_is_about_the_image_of_the_specimen_centre():
    poses = [TiltPose(y_tilt_deg=30.0, z_rot_deg=80.0, x_tilt_deg=4.0, x_shift_angstrom=50.0, magnification=1.02)]
    geometry = TiltGeometry.from_poses(poses)
    point = np.array([100.0, -70.0, 40.0])
    camera = rotation_z(80.0) @ rotation_y(30.0) @ rotation_x(4.0) @ point
    expected = [1.02 * camera[0] + 50.0, 1.02 * camera[1], camera[2]]
    np.testing.assert_allclose(geometry.project(point)[0], expected, atol=1e-9)
    np.testing.assert_allclose(geometry.project([point, -point])[0, 0], expected, atol=1e-9)
    np.testing.assert_allclose(geometry.image_matrices[0] @ point, 1.02 * camera[:2], atol=1e-9)
    assert geometry[[0]].magnification.tolist() == [1.02]
    assert TiltGeometry.build([0.0, 1.0]).magnification.tolist() == [1.0, 1.0]


# --- one read


@pytest.mark.parametrize("axis", [84.3, -12.0])
def test_resampled_images_are_the_projections_without_rotation_shift_magnification_and_bend(axis):
    geometry, bend = _geometry([-50.0, 0.0, 33.0], axis=axis), Bend(3)
    images = _images(geometry, bend)
    keywords = {"out_shape": (111, 104), "out_pixel_size": VOXEL}
    expected = PHANTOM.project(TiltGeometry.build(geometry.y_tilt_deg), (111, 104), VOXEL)
    right = resample_tilts(images, geometry, PIXEL, **keywords, warp=bend.sampled())
    assert _error(right, expected) < 0.002
    wrong = bend.sampled()
    wrong = ImageWarp.build(-wrong.displacement_angstrom, SIZE, PIXEL)
    swapped = ImageWarp.build(bend.sampled().displacement_angstrom[..., ::-1], SIZE, PIXEL)
    inverse = geometry.replace(magnification=1.0 / geometry.magnification)
    assert _error(resample_tilts(images, geometry, PIXEL, **keywords), expected) > 0.1
    for field in (wrong, swapped):
        assert _error(resample_tilts(images, geometry, PIXEL, **keywords, warp=field), expected) > 0.1
    assert _error(resample_tilts(images, inverse, PIXEL, **keywords, warp=bend.sampled()), expected) > 0.05
    plain = resample_tilts(images.double(), geometry, PIXEL, **keywords, warp=bend.sampled())
    assert _error(right.double(), plain) < 1e-5


@pytest.mark.parametrize(("axis", "x_tilt"), [(84.3, 0.0), pytest.param(-12.0, 6.0, marks=pytest.mark.slow)])
def test_blobs_are_found_where_they_are(axis, x_tilt):
    geometry, bend = _geometry(np.arange(-90.0, 90.0, 4.0), axis=axis, x_tilt=x_tilt), Bend(45)
    still = geometry.replace(magnification=np.ones(45))
    images, warp = _images(geometry, bend), bend.sampled()
    expected = _reconstruct(_images(still), still)
    right = _reconstruct(images, geometry, warp=warp)
    assert _distances(right).max() < 0.1
    truth = PHANTOM.volume((100, 110, 112), VOXEL)
    assert float((right * truth).sum() / truth.square().sum()) == pytest.approx(1.0, abs=0.01)
    middle = (slice(25, 75), slice(25, 85), slice(25, 85))  # away from the streaks that end at the edges of the images
    assert _error(right[middle], expected[middle]) < 0.006
    negative = ImageWarp.build(-warp.displacement_angstrom, SIZE, PIXEL)
    wrong = {
        "no warp": (_reconstruct(images, geometry), 0.3),
        "warp's sign": (_reconstruct(images, geometry, warp=negative), 0.6),
        "no magnification": (_reconstruct(images, still, warp=warp), 0.1),
        "its inverse": (
            _reconstruct(images, geometry.replace(magnification=1.0 / geometry.magnification), warp=warp),
            0.2,
        ),
    }
    for name, (volume, away) in wrong.items():
        assert _error(volume, expected) > 0.07, name
        assert _distances(volume).max() > away, name


@pytest.mark.parametrize("supersampling", [1, 2, 4])
def test_the_lines_of_the_cpu_are_those_of_plain_torch_and_slabs_are_the_whole(supersampling):
    geometry, bend = _geometry([-82.0, -40.0, 0.0, 21.0]), Bend(4, (60, 71))
    images = torch.randn((4, 60, 71), generator=torch.Generator().manual_seed(3))
    params = PLAIN.replace(supersampling=supersampling)
    keywords = {"params": params, "warp": bend.sampled((60, 71), grid=(3, 4)), "shape": (21, 48, 52)}
    whole = _reconstruct(images, geometry, **keywords)
    plain = _reconstruct(images.double(), geometry, **keywords)
    assert _error(whole.double(), plain) < 1e-5
    slabs = reconstruct_slabs(
        images,
        geometry,
        pixel_size=PIXEL,
        volume_shape=(21, 48, 52),
        voxel_size=VOXEL,
        params=params,
        planes=8,
        warp=keywords["warp"],
    )
    joined = torch.cat([s.density for s in slabs])
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-6 * float(whole.abs().max()))


def test_a_constant_field_is_a_shift():
    geometry = _geometry([-40.0, 0.0, 21.0])
    images = torch.randn((3, 60, 71), generator=torch.Generator().manual_seed(3))
    moved = np.array([[30.0, -12.0], [4.0, 9.0], [-20.0, 0.0]])
    warp = ImageWarp.build(moved[:, None, None], (60, 71), PIXEL)
    shifted = geometry.replace(shifts_angstrom=geometry.shifts_angstrom + moved)
    got, expected = (_reconstruct(images, g, (21, 48, 52), warp=w) for g, w in ((geometry, warp), (shifted, None)))
    assert _error(got, expected) < 1e-5
    sizes = {"out_shape": (48, 52), "out_pixel_size": VOXEL}
    assert torch.equal(
        coverage_of_tilts(geometry, (60, 71), PIXEL, **sizes, warp=warp),
        coverage_of_tilts(shifted, (60, 71), PIXEL, **sizes),
    )
    torch.testing.assert_close(
        recorded_weights(geometry, (60, 71), PIXEL, **sizes, taper_px=8.0, warp=warp),
        recorded_weights(shifted, (60, 71), PIXEL, **sizes, taper_px=8.0),
    )


def test_what_was_recorded_is_where_the_images_are_read_not_zero():
    geometry, bend = _geometry([-40.0, 0.0]), Bend(2, strength=10.0)
    size, warp = {"out_shape": (170, 181), "out_pixel_size": VOXEL}, bend.sampled()
    read = resample_tilts(torch.ones((2, *SIZE)), geometry, PIXEL, **size, warp=warp)
    coverage = coverage_of_tilts(geometry, SIZE, PIXEL, **size, warp=warp)
    assert 0.3 < float(coverage.float().mean()) < 0.7
    assert torch.equal(coverage, read != 0.0)
    weights = recorded_weights(geometry, SIZE, PIXEL, **size, taper_px=5.0, warp=warp)
    assert bool((weights[~coverage] == 0.0).all())
    assert float(weights.mean()) == pytest.approx(float(coverage.float().mean()), rel=0.06)


# --- everything else that knows the geometry


def test_boxes_from_the_images_follow_magnification_and_bend():
    blob = Phantom(
        positions_angstrom=np.array([[210.0, -160.0, 60.0]]), weights=np.ones(1), sigmas_angstrom=np.array([20.0])
    )
    geometry, bend = _geometry(np.arange(-90.0, 90.0, 3.0)), Bend(60)
    images = _images(geometry, bend, phantom=blob)
    centre = blob.positions_angstrom

    def box(g, warp):
        keywords = {"pixel_size": PIXEL, "box_size": 32, "voxel_size": VOXEL, "warp": warp}
        return reconstruct_boxes(images, g, centre, **keywords)[0]

    right = box(geometry, bend.sampled())
    middle = Phantom(positions_angstrom=np.zeros((1, 3)), weights=np.ones(1), sigmas_angstrom=np.array([20.0]))
    truth = middle.volume((32, 32, 32), VOXEL)
    assert _distances(right, middle).max() < 0.1
    assert float((right * truth).sum() / truth.square().sum()) == pytest.approx(1.0, abs=0.03)
    inverse = geometry.replace(magnification=1.0 / geometry.magnification)
    negative = ImageWarp.build(-bend.sampled().displacement_angstrom, SIZE, PIXEL)
    for volume in (box(geometry, None), box(inverse, bend.sampled()), box(geometry, negative)):
        assert _error(volume, truth) > 2.0 * _error(right, truth)


def test_the_ctf_aware_inverse_undoes_both():
    geometry, bend = _geometry(np.arange(-60.0, 61.0, 12.0)), Bend(11)
    images = _images(geometry, bend)
    still = _images(geometry.replace(magnification=np.ones(11)))
    keywords = {
        "pixel_size": PIXEL,
        "volume_shape": (80, 100, 100),
        "voxel_size": VOXEL,
        "fits": [CtfFit(defocus_u_angstrom=20000.0, defocus_v_angstrom=20000.0)] * 11,
        "optics": Optics(),
        "hand": -1.0,
        "signal_to_noise": assumed_signal_to_noise(3.0),
        "stopping": Stopping(iterations=2),
        "by_height": False,
    }
    expected = invert_ctf(still, geometry.replace(magnification=np.ones(11)), **keywords)
    assert _error(invert_ctf(images, geometry, **keywords, warp=bend.sampled()), expected) < 0.05
    assert _error(invert_ctf(images, geometry, **keywords), expected) > 0.1


def test_reprojections_are_magnified():
    geometry = _geometry([-50.0, 0.0, 33.0], x_tilt=5.0)
    volume = PHANTOM.volume((92, 100, 101), 10.0)
    got = reproject_volume(volume, geometry, voxel_size=10.0, image_shape=SIZE, pixel_size=PIXEL)
    assert _error(got, _images(geometry)) < 0.01
    plain = geometry.replace(magnification=np.ones(3))
    assert _error(reproject_volume(volume, plain, voxel_size=10.0, image_shape=SIZE, pixel_size=PIXEL), got) > 0.05


def test_heights_of_a_magnified_image_are_those_of_the_specimen():
    # a single pixel shows the CTF of its height
    fits = [CtfFit(defocus_u_angstrom=10000.0, defocus_v_angstrom=10000.0)]
    keywords = {"fits": fits, "optics": Optics(), "hand": -1.0, "mode": "multiply"}
    image, nearer = torch.zeros((2, 1, 256, 256))
    image[0, 128, 20] = nearer[0, 128, 74] = (
        1.0  # (20 - 128) px at twice the magnification has the height of half as many
    )
    once, twice = (
        correct_ctf(image, TiltGeometry.build([80.0], magnification=m), pixel_size=4.0, **keywords)[0, 120:137, 12:29]
        for m in (1.0, 2.0)
    )
    expected = correct_ctf(nearer, TiltGeometry.build([80.0]), pixel_size=4.0, **keywords)[0, 120:137, 66:83]
    assert _error(twice, expected) < 0.1
    assert _error(once, expected) > 0.3


# --- files


def test_fields_come_back_from_their_file_for_the_tilts_asked_for(tmp_path):
    warp = Bend(4).sampled(grid=(3, 5))
    path = tmp_path / "align" / "warps" / "TS_01.npz"
    write_image_warp(path, warp, [5, 0, 3, 2])
    got = read_image_warp(path, [2, 5])
    np.testing.assert_array_equal(got.displacement_angstrom, warp.displacement_angstrom[[3, 0]])
    assert (got.image_shape, got.pixel_size_angstrom) == (SIZE, PIXEL)
    assert [p.name for p in path.parent.iterdir()] == ["TS_01.npz"]
    with pytest.raises(FormatError, match="number 4"):
        read_image_warp(path, [5, 4])
    with pytest.raises(InputError, match="not a file"):
        read_image_warp(tmp_path / "none.npz", [0])
    with pytest.raises(ShapeError, match="expected one of its own"):
        write_image_warp(path, warp, [5, 0, 3, 3])


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut short"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(FormatError, match="does not hold displacement fields"):
        read_image_warp(tmp_path / "a.npz", [0])
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    with pytest.raises(FormatError, match="does not hold displacement fields"):
        read_image_warp(tmp_path / "b.npz", [0])
