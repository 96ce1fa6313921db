"""Particles cut and averaged on a GPU: the same as on the CPU."""

import numpy as np
import pytest
import torch

from eucentric.averaging.average_particles import average_halves
from eucentric.averaging.fourier_sums import FourierSums
from eucentric.averaging.params import AverageParams, ExtractParams
from eucentric.averaging.particle_images import prepare_series
from eucentric.geometry import Rotation
from eucentric.models import CtfFit, Optics, Tilt, TiltPose, TiltSeries

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def _average(device):
    tilts = tuple(
        Tilt(
            nominal_tilt_deg=float(a), acquisition=i, dose=3.0, pre_exposure=3.0 * i,
            pose=TiltPose(y_tilt_deg=float(a), z_rot_deg=80.0),
            ctf=CtfFit(defocus_u_angstrom=20000.0, defocus_v_angstrom=19500.0),
        )
        for i, a in enumerate(np.arange(-40.0, 41.0, 20.0))
    )  # fmt: skip
    series = TiltSeries(name="T", pixel_size_angstrom=5.0, image_shape=(160, 160), tilts=tilts, optics=Optics())
    rng = np.random.default_rng(1)
    images = torch.from_numpy(20.0 + rng.standard_normal((5, 160, 160))).float().to(device)
    places, turns = rng.uniform(-200.0, 200.0, (8, 3)), Rotation.random(8, rng).matrices
    source = prepare_series(images, series, ExtractParams(box_size=32))
    batch = source.particles(places)
    halves = np.array([1, 2] * 4)
    sums = []
    for half in (1, 2):
        own = FourierSums.empty(32, source.pixel_size_angstrom, device)
        own.add(batch, turns, (halves == half).astype(float))
        sums.append(own)
    params = AverageParams(symmetry="C3", mask_diameter_angstrom=80.0)
    return average_halves((sums[0], sums[1]), params, halves=halves, tilts_used=np.zeros(8, np.int64))


def test_half_maps_are_those_of_the_cpu():
    here, there = _average(torch.device("cpu")), _average(torch.device("cuda"))
    for a, b in ((here.half1, there.half1), (here.half2, there.half2), (here.mask, there.mask)):
        assert float((a - b.cpu()).norm() / a.norm()) < 1e-3
