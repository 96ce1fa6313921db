"""Training boxes: their potential, transfer, noise and labels against what they stand for."""

import math
import pickle

import numpy as np
import pytest
import torch

from eucentric.errors import InputError
from eucentric.geometry import Rotation, TiltGeometry
from eucentric.models import Optics
from eucentric.optics import ctf_2d
from eucentric.optics.atoms import density_from_points, interaction_parameter
from eucentric.optics.box_transfer import BoxTransfer
from eucentric.reconstruction.params import ReconstructParams
from eucentric.reconstruction.reconstruct_volume import reconstruct_volume
from eucentric.simulation import Body, SimulationParams, Species, Specimen, procedural_macromolecule
from eucentric.simulation.density_grid import density_transform
from eucentric.simulation.phantom import Phantom
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

VOXEL = 10.0
SMALL = SubvolumeParams(box_size=32, margin=4, series=2)


def a_body(seed=0):
    rng = np.random.default_rng(seed)
    species = procedural_macromolecule(400.0).coarse(5.0)
    return Body(
        points_angstrom=species.points_angstrom,
        weights=species.weights,
        rotations=Rotation.random(2, rng).matrices,
        centres_angstrom=np.array([[31.0, -62.0, 44.0], [-85.0, 20.0, -50.0]]),
        fades=True,
    )


def points_of(body):
    placed = np.einsum("bij,nj->bni", body.rotations, body.points_angstrom) + body.centres_angstrom[:, None]
    return placed.reshape(-1, 3), np.tile(body.weights, len(body.centres_angstrom))


def test_density_is_that_of_the_points():
    body = a_body()
    points, weights = points_of(body)
    found = torch.fft.irfftn(density_transform([body], 40, VOXEL), s=(40, 40, 40))
    expected = density_from_points(points, weights, (40, 40, 40), VOXEL)
    assert float(found.sum()) * VOXEL**3 == pytest.approx(weights.sum(), rel=1e-4)
    # alike but for the last third of the band, where the splines alias
    frequency = torch.fft.fftfreq(40)
    low = (frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + torch.fft.rfftfreq(40) ** 2).sqrt() < 0.33
    a, b = (torch.fft.rfftn(v)[low] for v in (found, expected))
    assert float((a - b).abs().square().sum().sqrt() / b.abs().square().sum().sqrt()) < 0.01


def series(count=41):
    return TiltGeometry.build(np.linspace(-60.0, 60.0, count), z_rot_deg=0.0)


def transfer_of(geometry, side, *, dose, defocus=30000.0, **options):
    count = len(geometry)
    return BoxTransfer.build(
        geometry,
        side=side,
        voxel_size=VOXEL,
        optics=Optics(),
        defocus_angstrom=np.full(count, defocus),
        doses=np.full(count, dose),
        pre_exposures=np.zeros(count),
        depths=np.zeros(count),
        b_factor=0.0,
        dose_weighting=False,
        **options,
    )


def reconstructed(images, geometry, side):
    params = ReconstructParams(method="wbp", filter="exact", dose_weighting=False, ctf_correction="none")
    return reconstruct_volume(
        images, geometry, pixel_size=VOXEL, volume_shape=(side,) * 3, voxel_size=VOXEL, params=params
    )


def test_a_box_is_what_projection_and_reconstruction_make_of_it():
    """Against images of a crowd of blobs, filtered by the CTF and reconstructed by the product's own operators."""
    rng = np.random.default_rng(0)
    side, geometry = 48, series()
    extent = 0.42 * side * VOXEL
    blobs = Phantom(
        positions_angstrom=rng.uniform(-extent, extent, (150, 3)),
        weights=rng.uniform(0.5, 1.5, 150),
        sigmas_angstrom=rng.uniform(11.0, 22.0, 150),
    )
    shape = (144, 144)
    contrast = 2.0 * interaction_parameter(300.0) * ctf_2d(shape, VOXEL, 30000.0, 30000.0, 0.0, Optics())
    images = torch.fft.irfft2(torch.fft.rfft2(blobs.project(geometry, shape, VOXEL)) * contrast, s=shape)
    expected = reconstructed(images, geometry, side)
    transfer = transfer_of(geometry, side, dose=1e-6, correction="none")
    potential = torch.fft.rfftn(blobs.volume((side,) * 3, VOXEL))
    found = torch.fft.irfftn(potential * transfer.signal, s=(side,) * 3)
    assert float(torch.corrcoef(torch.stack([found.reshape(-1), expected.reshape(-1)]))[0, 1]) > 0.96
    assert float(expected.std() / found.std()) == pytest.approx(1.0, abs=0.12)
    flipped = transfer_of(geometry, side, dose=1e-6, correction="flip").signal
    assert float(flipped.max()) <= 0.0  # dark at every frequency
    torch.testing.assert_close(flipped.abs()[0, 0], transfer.signal.abs()[0, 0], rtol=0.25, atol=1e-5)


def test_noise_of_a_box_is_that_of_reconstructed_shot_noise():
    side, geometry, dose = 48, series(), 3.0
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(41, 144, 144, generator=generator) / math.sqrt(dose * VOXEL**2)
    power = torch.fft.rfftn(reconstructed(images, geometry, side)).abs().square()
    expected = transfer_of(geometry, side, dose=dose, correction="none").noise ** 2 * side**3
    frequency = torch.fft.fftfreq(side)
    radius = (frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + torch.fft.rfftfreq(side) ** 2).sqrt()
    for low in (0.1, 0.2, 0.3, 0.4):
        ring = (radius >= low) & (radius < low + 0.1)
        assert float((power[ring].sum() / expected[ring].sum()).sqrt()) == pytest.approx(1.0, abs=0.2)
    halves = transfer_of(geometry, side, dose=dose, correction="none", part=0.5).noise
    torch.testing.assert_close(halves, expected.sqrt() / side**1.5 * math.sqrt(2.0), rtol=1e-4, atol=1e-9)


@pytest.fixture(scope="module")
def specimen():
    params = SimulationParams(
        thickness_angstrom=1100.0,
        image_size_px=(160, 160),
        pixel_size_angstrom=7.0,
        particles_per_species=(14, 20),
        beads=4,
        vesicle_radius_angstrom=(250.0, 300.0),
    )
    kinds: list[Species] = [procedural_macromolecule(m) for m in (1200.0, 400.0)]
    return Specimen.build(params, kinds, np.random.default_rng(4))


def test_boxes_are_the_same_whenever_they_are_asked_for(specimen):
    first, second = SubvolumeDataset([specimen], SMALL, count=6), SubvolumeDataset([specimen], SMALL, count=6)
    for index in (3, 0):
        for name, value in first[index].items():
            torch.testing.assert_close(value, second[index][name], rtol=0, atol=0)
    other = SubvolumeDataset([specimen], SMALL, count=6, seed=2)[3]
    assert not torch.equal(first[3]["half1"], other["half1"])
    copied = pickle.loads(pickle.dumps(first))  # as a loader sends it to its processes
    torch.testing.assert_close(copied[3]["half1"], first[3]["half1"], rtol=0, atol=0)
    with pytest.raises(IndexError):
        first[6]
    batch = next(iter(torch.utils.data.DataLoader(first, batch_size=3)))
    assert batch["half1"].shape == (3, 32, 32, 32)
    assert batch["positions_px"].shape == (3, 128, 3)


def test_what_a_box_says_of_itself(specimen):
    """Matter is dark where the labels say, particles lie where the table says, halves differ by noise alone."""
    boxes = SubvolumeDataset([specimen], SMALL, count=24)
    assert boxes.classes == ("nothing", *(s.name for s in specimen.species), "vesicle", "bead")
    seen = dict.fromkeys(range(1, 5), 0)
    contrast, places = [], []
    for box in (boxes[i] for i in range(24)):
        labels, mean = box["labels"], 0.5 * (box["half1"] + box["half2"])
        assert float(mean.std()) == pytest.approx(1.0, abs=1e-3)
        assert float(box["half1"].mean()) == pytest.approx(0.0, abs=0.2)
        for label in seen:
            seen[label] += int((labels == label).sum())
        matter = (labels == 1) | (labels == 2)
        if int(matter.sum()) > 100:
            contrast.append(float(mean[matter].mean() - mean[labels == 0].mean()))
            assert float(box["clean"][matter].mean()) > 5 * abs(float(box["clean"][labels == 0].mean()))
        inside = box["membrane_distance"].abs() <= 20.0
        assert bool((labels[inside] > 0).all())
        used = box["kinds"] >= 0
        for kind, place, turn in zip(
            box["kinds"][used], box["positions_px"][used], box["rotations"][used], strict=True
        ):
            points = specimen.species[int(kind)].points_angstrom @ turn.numpy().T.astype(float) / VOXEL + place.numpy()
            points = points[
                np.linalg.norm(points - place.numpy(), axis=1) * VOXEL < 40.0
            ]  # not the outline, which is a matter of taste
            near = np.round(points[:: max(1, len(points) // 50)]).astype(int)
            near = near[((near >= 0) & (near < 32)).all(1)]
            places.append(np.mean([labels[z, y, x] == 1 + int(kind) for x, y, z in near]))
        assert bool(((box["instances"] > 0) == matter).all())
    assert all(count > 0 for count in seen.values())
    assert np.mean(contrast) < -0.3
    assert np.mean(places) > 0.9


def test_the_wedge_is_where_nothing_was_measured(specimen):
    box = SubvolumeDataset([specimen], SMALL.model_copy(update={"pre_tilt_deg": 0.0, "turn": "none"}), count=1)[0]
    wedge = box["wedge"]
    assert float(wedge[12, 0, 2]) == 0.0  # steep in z
    assert float(wedge[0, 0, 12]) == pytest.approx(1.0, abs=0.3)  # along x
    power = torch.fft.rfftn(box["half1"]).abs().square()
    frequency = torch.fft.fftfreq(32)
    band = (frequency[:, None, None] ** 2 + frequency[:, None] ** 2 + torch.fft.rfftfreq(32) ** 2).sqrt()
    ring = (band > 0.2) & (band < 0.45)
    # the box is a part of what was simulated: its edges leak into the wedge
    assert float(power[ring & (wedge < 0.01)].mean()) < 0.2 * float(power[ring & (wedge > 0.9)].mean())


def test_wrong_settings_are_refused(specimen):
    with pytest.raises(InputError, match="one or more"):
        SubvolumeDataset([], SMALL)
    with pytest.raises(ValueError, match="smaller first"):
        SubvolumeParams(dose=(5.0, 1.0))
