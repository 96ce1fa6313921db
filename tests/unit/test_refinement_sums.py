"""Slopes of the images against finite differences of a model that is written down in the scene's module."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from eucentric.averaging.params import ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.errors import ShapeError
from eucentric.refinement import image_sums
from eucentric.refinement.image_sums import AT, BANDS, COARSE, LOCAL, ImageModel, ImageSums, Reference, RefinedParticles
from eucentric.refinement.normal_equations import LocalTerms
from refinement_scene import (
    OPTICS,
    PIXEL,
    blob_places,
    blob_volume,
    camera_of,
    chi,
    faded,
    imaged,
    odd_phase,
    particle_spectrum,
    scattered,
    seen,
    tilt_series,
)

BOX, FINEST, CONTRAST = 40, 11.0, 0.8
TRANSFER = ("defocus", "astigmatism_x", "astigmatism_y", "spherical", "phase")
STEP = {
    "x": 0.05, "y": 0.05, "turn_x": 1e-3, "turn_y": 1e-3, "turn_z": 1e-3, "magnification": 1e-3, "defocus": 20.0,
    "astigmatism_x": 20.0, "astigmatism_y": 20.0, "spherical": 0.05, "phase": 0.01, "coma_x": 0.05, "coma_y": 0.05,
    "trefoil_x": 5.0, "trefoil_y": 5.0,
} | {f"band{j}": 0.01 for j in range(BANDS)}  # fmt: skip


def _series():
    tilts = tilt_series(step=30.0).tilts
    tilts = [replace(t, pose=replace(t.pose, magnification=1.0 + 0.01 * (i - 2))) for i, t in enumerate(tilts)]
    optics = replace(OPTICS, beam_tilt_mrad=(0.4, -0.7), trefoil_rad_angstrom3=(30.0, -20.0))
    return tilt_series(step=30.0).with_tilts(tilts).replace(optics=optics)


class _Written:
    """One image of a particle in its window, phases from where it is predicted, for any local change."""

    def __init__(self, scene, source, particle, tilt):
        self.scene, self.tilt = scene, scene.series.tilts[tilt]
        m = source.window_size
        self.ky, self.kx = np.fft.fftfreq(m, PIXEL)[:, None], np.fft.rfftfreq(m, PIXEL)
        self.camera = camera_of(self.tilt.pose) @ scene.rotations[particle]
        _, heights = seen(scene.series, scene.positions)
        self.height = float(heights[tilt, particle])

    def __call__(self, **change):
        c = dict.fromkeys(LOCAL, 0.0) | change
        m = self.tilt.pose.magnification * math.exp(c["magnification"])
        turn = Rotation.from_rotvec([c["turn_x"], c["turn_y"], c["turn_z"]]).as_matrix()
        half = 0.5 * (self.tilt.ctf.defocus_u_angstrom - self.tilt.ctf.defocus_v_angstrom)
        angle = math.radians(2.0 * self.tilt.ctf.astigmatism_angle_deg)
        x, y = half * math.cos(angle) + c["astigmatism_x"], half * math.sin(angle) + c["astigmatism_y"]
        mean = self.tilt.ctf.defocus_angstrom + c["defocus"]
        fit = replace(
            self.tilt.ctf,
            defocus_u_angstrom=mean + math.hypot(x, y),
            defocus_v_angstrom=mean - math.hypot(x, y),
            astigmatism_angle_deg=0.5 * math.degrees(math.atan2(y, x)),
            phase_shift_deg=math.degrees(c["phase"]),
        )
        known = self.scene.series.optics
        optics = replace(known, spherical_aberration_mm=known.spherical_aberration_mm + c["spherical"])
        (bx, by), (tx, ty) = known.beam_tilt_mrad, known.trefoil_rad_angstrom3
        wrong = replace(
            known,
            beam_tilt_mrad=(bx + c["coma_x"], by + c["coma_y"]),
            trefoil_rad_angstrom3=(tx + c["trefoil_x"], ty + c["trefoil_y"]),
        )
        # data have the known odd phases taken out
        odd = odd_phase(wrong, self.ky, self.kx) - odd_phase(known, self.ky, self.kx)
        offset = np.array([c["x"], c["y"]])
        spectrum = particle_spectrum(self.scene.blobs, turn @ self.camera, m, offset, self.ky, self.kx)
        # damage is that of the series, whatever else the image turns out to be
        fade = faded(self.tilt.pre_exposure + 0.5 * self.tilt.dose, self.tilt.pose.magnification, self.ky, self.kx)
        transfer = -np.sin(chi(fit, optics, self.scene.series.hand * self.height, self.ky, self.kx)) * fade
        place = np.hypot(self.ky, self.kx) * FINEST * (BANDS - 1)
        gain = 1.0 + sum(c[f"band{j}"] * np.clip(1.0 - np.abs(place - j), 0.0, None) for j in range(BANDS))
        return gain * np.exp(1j * odd) * transfer * spectrum / PIXEL**2


def model_of(scene, source):
    reference = Reference(blob_volume(scene.blobs, BOX, PIXEL), PIXEL)
    return ImageModel(source, (reference,), FINEST, bands_angstrom=FINEST)


def particles_of(scene, contrast, moved=(0.0, 0.0, 0.0)):
    count = len(scene.positions)
    return RefinedParticles(
        positions_angstrom=scene.positions + np.array(moved),
        rotations=scene.rotations,
        references=np.zeros(count, np.int64),
        contrasts=np.full(count, contrast),
    )


@pytest.fixture(scope="module")
def compared():
    series = _series()
    positions, rotations = scattered(3)
    scene = imaged(series, positions, rotations, blob_places())
    source = prepare_series(scene.images, series, ExtractParams(box_size=BOX, image_weights=False))
    return scene, source, model_of(scene, source).sums(particles_of(scene, CONTRAST))


def _weights(source, tilt):
    """What a sample counts: over the noise, both halves of the plane, and less samples than the window has."""
    m, n = source.window_size, source.params.box_size
    radius = np.hypot(np.fft.fftfreq(m, PIXEL)[:, None], np.fft.rfftfreq(m, PIXEL))
    share = np.where(np.arange(m // 2 + 1) == 0, 1.0, 2.0) * (n / m) ** 2
    return source.inverse_noise[tilt].double().numpy() * share * (radius < 1.0 / FINEST)


@pytest.mark.parametrize("row", [0, 6, 9, 14])
def test_slopes_and_their_products_are_those_of_the_model_written_down(compared, row):
    scene, source, sums = compared
    particle, tilt = int(sums.particle[row]), int(sums.tilt[row])
    written, weight = _Written(scene, source, particle, tilt), _weights(source, tilt)
    pixels = source.project(scene.positions).pixels[[tilt], particle]
    data = source.spectra(np.array([tilt]), pixels)[0].to(torch.complex128).numpy()
    terms = LocalTerms.of(sums, np.full(len(sums.tilt), CONTRAST))
    slopes, gradient = [], []
    for name in LOCAL:
        h = STEP[name]
        # what the transfer is asked of, coarser detail says nothing of
        counts = weight * (np.hypot(written.ky, written.kx) > 1.0 / COARSE) if name in TRANSFER else weight
        high, low = (CONTRAST * written(**{name: sign * h}) for sign in (1.0, -1.0))
        slopes.append((high - low) / (2.0 * h) * (counts > 0))
        # log-likelihood at both sides, the data's own square left out
        values = [(counts * ((data.conj() * m).real - 0.5 * np.abs(m) ** 2)).sum() for m in (high, low)]
        gradient.append((values[0] - values[1]) / (2.0 * h))
    fisher = np.array([[(weight * (a.conj() * b).real).sum() for b in slopes] for a in slopes])
    unit = np.sqrt(np.diag(fisher))
    # of one: maps end at Nyquist and at the faces of their box, where the last band and the slope by scale are strongest
    np.testing.assert_allclose(terms.curvature[row] / np.outer(unit, unit), fisher / np.outer(unit, unit), atol=0.06)
    scale = math.sqrt((weight * np.abs(data) ** 2).sum())
    np.testing.assert_allclose(terms.gradient[row] / unit, np.array(gradient) / unit, atol=0.01 * scale)


def test_images_may_be_compared_one_at_a_time(compared, monkeypatch):
    scene, source, sums = compared
    monkeypatch.setattr(image_sums, "_SLOPES_BYTES", 1)
    alone = model_of(scene, source).sums(particles_of(scene, CONTRAST))
    np.testing.assert_array_equal(alone.tilt, sums.tilt)
    np.testing.assert_allclose(alone.norm, sums.norm, rtol=1e-4, atol=1e-5 * np.abs(sums.norm).max())
    np.testing.assert_allclose(alone.overlap, sums.overlap, rtol=1e-4, atol=1e-5 * np.abs(sums.overlap).max())


def test_a_particle_that_lies_elsewhere_pulls_towards_where_it_lies(compared):
    scene, source, _ = compared
    sums = model_of(scene, source).sums(particles_of(scene, 1.0, moved=(-2.0, 3.0, -1.0)))
    terms = LocalTerms.of(sums, np.ones(len(sums.tilt)))
    xy = [AT["x"], AT["y"]]
    matrix = terms.curvature[:, xy][:, :, xy].sum(0)
    for t in range(len(scene.series.tilts)):
        here = sums.tilt == t
        found = np.linalg.solve(terms.curvature[here][:, xy][:, :, xy].sum(0), terms.gradient[here][:, xy].sum(0))
        pose = scene.series.tilts[t].pose
        true = pose.magnification * camera_of(pose)[:2] @ [2.0, -3.0, 1.0]
        sigma = 1.0 / math.sqrt(matrix[0, 0] / len(scene.series.tilts))
        # other local changes are held, so a slope is a little off; noise is what the sums say
        np.testing.assert_allclose(found, true, atol=4.0 * sigma + 0.3)


def test_predicted_images_are_those_of_the_scene_without_noise(compared):
    scene, source, _ = compared
    clean = imaged(scene.series, scene.positions, scene.rotations, scene.blobs, noise=0.0)
    got = model_of(scene, source).predicted(particles_of(scene, 1.0))
    true = clean.images / clean.images.mean((1, 2), keepdim=True) - 1.0
    rows, columns = (torch.fft.fftfreq(k, PIXEL) for k in got.shape[1:])
    # what is compared, and no edge of it: windows bring in a little from beyond
    radius = torch.hypot(rows[:, None], columns[None, : columns.shape[0] // 2 + 1])
    inside = (radius > 0) & (radius < 0.9 / FINEST)
    a, b = (torch.fft.rfft2(images)[:, inside] for images in (got, true))
    assert float((a - b).abs().square().sum() / b.abs().square().sum()) < 0.03**2


def test_parts_are_joined_with_particles_counted_on(compared):
    _, _, sums = compared
    both = ImageSums.joined([sums, sums], [3, 3])
    np.testing.assert_array_equal(both.particle, np.concatenate([sums.particle, sums.particle + 3]))
    np.testing.assert_array_equal(both.overlap, np.concatenate([sums.overlap] * 2))


@pytest.mark.parametrize("shape", [(8, 8, 10), (9, 9, 9)])
def test_a_reference_is_an_even_cube(shape):
    with pytest.raises(ShapeError, match="cube of even size"):
        Reference(torch.zeros(shape), 5.0)
