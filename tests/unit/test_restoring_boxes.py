"""Simulated pairs that restoring networks learn from: what they show, and in which direction."""

import math

import numpy as np
import pytest
import torch

from eucentric.denoising.learned.simulated_pairs import SimulatedPairs
from eucentric.denoising.sampled_region import sampled_region
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics
from eucentric.optics.box_transfer import BoxTransfer
from eucentric.optics.ctf import without_zeros
from eucentric.simulation import SimulationParams, Species, Specimen, procedural_macromolecule
from eucentric.simulation.subvolumes import SubvolumeDataset, SubvolumeParams

VOXEL = 10.0
BOX = SubvolumeParams(
    box_size=32, margin=4, series=2, voxel_size_angstrom=VOXEL, tilt_range_deg=(60.0, 60.0), pre_tilt_deg=0.0
)


def radius(side):
    full, half = torch.fft.fftfreq(side), torch.fft.rfftfreq(side)
    return (full[:, None, None] ** 2 + full[:, None] ** 2 + half**2).sqrt()


def correlation(one, two):
    return float(torch.corrcoef(torch.stack([one.reshape(-1), two.reshape(-1)]))[0, 1])


def test_a_transfer_without_zeros_rises_to_its_first_peak_and_stays():
    phase = torch.linspace(0.07, 20.0, 2000)
    envelope = torch.exp(-0.01 * phase)
    for sign in (1.0, -1.0):
        found = without_zeros(sign * torch.sin(phase) * envelope)
        peak = float((torch.sin(phase) * envelope).max())
        rising = phase < 1.5
        torch.testing.assert_close(found[rising], (torch.sin(phase) * envelope)[rising])
        torch.testing.assert_close(found[phase > 1.6], torch.full_like(found[phase > 1.6], peak), rtol=1e-3, atol=0)
    monotonous = torch.linspace(0.0, 1.0, 50)
    torch.testing.assert_close(without_zeros(monotonous), monotonous)


@pytest.mark.parametrize("correction", ["none", "flip"])
def test_the_whole_transfer_knows_no_direction_and_no_zeros(correction):
    count, side, defocus = 41, 32, 40000.0
    ones = np.ones(count)
    made = BoxTransfer.build(
        TiltGeometry.build(np.linspace(-60.0, 60.0, count)),
        side=side,
        voxel_size=VOXEL,
        optics=Optics(),
        defocus_angstrom=defocus * ones,
        doses=3.0 * ones,
        pre_exposures=0.0 * ones,
        depths=0.0 * ones,
        b_factor=0.0,
        correction=correction,
        dose_weighting=False,
    )
    k = radius(side)
    wedge, tilted = made.coverage == 0.0, made.coverage > 0.99
    assert float(made.signal[wedge].abs().max()) == 0.0
    assert float(made.whole.max()) < 0.0  # matter is dark at every frequency, measured or not
    # one curve over the radius
    for low in (0.1, 0.2, 0.3, 0.4):
        ring = made.whole[(k >= low) & (k < low + 0.005)]
        assert float(ring.std()) < 0.05 * float(-ring.mean())
    # before the first peak the two agree where it was measured
    peak = math.sqrt(0.5 / (0.0197 * defocus)) * VOXEL  # cycles per voxel
    before = tilted & (k > 0.05) & (k < 0.8 * peak)
    assert int(before.sum()) > 50
    torch.testing.assert_close(made.signal[before], made.whole[before], rtol=0.12, atol=1e-6)
    beyond = (k > peak) & (k < 0.5)
    assert float(made.whole[beyond].abs().min()) > 0.5 * float(made.whole.abs().max())
    assert float(made.signal[beyond & tilted].abs().min()) < 0.1 * float(made.whole.abs().max())


@pytest.fixture(scope="module")
def boxes():
    params = SimulationParams(
        thickness_angstrom=1100.0,
        image_size_px=(160, 160),
        pixel_size_angstrom=7.0,
        particles_per_species=(14, 20),
        beads=0,
        vesicle_radius_angstrom=(250.0, 300.0),
    )
    kinds: list[Species] = [procedural_macromolecule(m) for m in (1200.0, 400.0)]
    return SubvolumeDataset([Specimen.build(params, kinds, np.random.default_rng(4))], BOX, count=6)


@pytest.fixture(scope="module")
def views(boxes):
    return [view for index in range(6) for view in boxes.restorations(index, 2)]


def test_signal_is_what_the_halves_have_in_common(views):
    residues = [[view[half] - view["signal"] for half in ("half1", "half2")] for view in views]
    count = math.sqrt(len(views) * 32**3)
    one, two = (torch.stack([pair[n] for pair in residues]) for n in (0, 1))
    signal = torch.stack([view["signal"] for view in views])
    # noise is coloured: some tens of voxels speak for one
    assert abs(correlation(one, two)) < 30.0 / count
    assert abs(correlation(one, signal)) < 30.0 / count
    assert float(one.std() / two.std()) == pytest.approx(1.0, abs=0.02)
    # noise outweighs the signal of one box, and the mean over boxes of what halves hold in common is the signal's power
    common = sum(float((view["half1"] * view["half2"]).mean()) for view in views)
    assert common == pytest.approx(sum(float(v["signal"].square().mean()) for v in views), rel=0.25)


def test_whole_is_signal_where_it_was_measured_and_more_in_the_wedge(views):
    k = radius(32)
    ratios, inside = [], []
    for view in views:
        waves = [torch.fft.rfftn(view[name] - view[name].mean()) for name in ("whole", "signal")]
        wedge, tilted = (view["wedge"] < 0.01) & (k > 0.1), (view["wedge"] > 0.99) & (k > 0.03) & (k < 0.15)
        # boxes are cut out of wider ones: their faces leak into the wedge
        power = [float(w[wedge].abs().square().mean()) for w in waves]
        ratios.append(power[0] / power[1])
        cross = (waves[0] * waves[1].conj()).real[tilted].sum()
        inside.append(float(cross / (waves[0][tilted].norm() * waves[1][tilted].norm())))
        assert correlation(view["whole"], view["signal"]) > 0.3
    assert np.median(ratios) > 3.0
    assert np.median(inside) > 0.9
    region = sampled_region((32, 32, 32), [-60.0, 60.0])
    for view in views:
        agree = (view["wedge"] > 0.5) == (region > 0.5)
        assert float(agree[(k > 0.15) & (k < 0.5)].float().mean()) > 0.9


def test_matter_is_dark_in_both(boxes):
    """Against the density itself, at the same place."""
    seen = []
    for index in range(4):
        item = boxes[index]  # its potential is bright; drawn from another seed than restorations
        assert item["clean"].max() > 0.0
        transfer = boxes._transfer(0)
        potential = torch.fft.rfftn(item["clean"])
        signal, whole = (
            torch.fft.irfftn(potential * _resized(t), s=(32, 32, 32)) for t in (transfer.signal, transfer.whole)
        )
        seen.append((correlation(signal, item["clean"]), correlation(whole, item["clean"])))
    assert all(low < -0.3 and high < -0.7 for low, high in seen)
    for view in boxes.restorations(1, 2):  # dark matter on a flat ground: the tail is on the dark side
        for name in ("signal", "whole"):
            volume = view[name] - view[name].median()
            assert float((volume**3).mean()) < 0.0


def _resized(transfer):
    shifted = torch.fft.fftshift(transfer, dim=(0, 1))
    found = torch.nn.functional.interpolate(
        shifted[None, None], size=(33, 33, 17), mode="trilinear", align_corners=True
    )[0, 0, :32, :32]
    return torch.fft.ifftshift(found, dim=(0, 1))


def test_the_same_matter_is_seen_from_several_sides(boxes):
    first, second = boxes.restorations(2, 2)
    assert not torch.equal(first["signal"], second["signal"])
    # laid onto other axes, so no voxel is where it was; how much matter there is stays
    for quantile in (0.01, 0.1, 0.5):
        one, two = (float(view["whole"].quantile(quantile)) for view in (first, second))
        assert one == pytest.approx(two, rel=0.35, abs=0.1 * float(first["whole"].std()))
    again = boxes.restorations(2, 2)
    assert all(torch.equal(again[n][name], view[name]) for n, view in enumerate((first, second)) for name in view)


def test_pairs_come_at_the_scale_of_their_noise(boxes):
    pairs = SimulatedPairs([boxes], batch_size=2, seed=3)
    batch = pairs.batch(0)
    assert batch["images"].shape == (2, 1, 32, 32, 32)
    assert batch["signal"].shape == batch["whole"].shape == (2, 32, 32, 32)
    assert batch["wedge"].shape == (2, 32, 32, 17)
    spreads = [float(b["images"][n].std()) for b in (batch, pairs.batch(1)) for n in range(2)]
    assert all(0.5 < spread < 2.0 for spread in spreads)  # a logarithm of 0.15 of jitter, and matter besides
    for image, signal in zip(batch["images"][:, 0], batch["signal"], strict=True):
        assert float(image.mean() - signal.mean()) == pytest.approx(0.0, abs=0.02)
        slope = float(((image - image.mean()) * (signal - signal.mean())).mean() / signal.var())
        assert slope == pytest.approx(1.0, abs=0.25)  # as strong in the image as it is said to be
    same = SimulatedPairs([boxes], batch_size=2, seed=3).batch(0)
    assert all(torch.equal(batch[name], same[name]) for name in batch)
    assert not torch.equal(batch["images"], pairs.batch(1)["images"])
