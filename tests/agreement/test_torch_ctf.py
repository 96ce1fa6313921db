"""The contrast transfer function against that of torch-ctf, whose sign is the opposite."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch_ctf import calculate_ctf_1d, calculate_ctf_2d

from eucentric.models import Optics
from eucentric.optics import ctf_1d, ctf_2d

# Theirs is computed in single precision: at 8 um, 80 kV and pixels of 1.5 A phases reach 2300 rad, known to some 3e-4.
_TOLERANCE = 1e-3

_pixels = st.floats(1.5, 10.0)
_defocus = st.floats(3000.0, 80000.0)
_phases = st.floats(0.0, 180.0)
_optics = st.builds(
    Optics,
    voltage_kv=st.floats(80.0, 300.0),
    spherical_aberration_mm=st.floats(0.0, 2.7),
    amplitude_contrast=st.floats(0.0, 0.2),
)


def _theirs(defocus, optics, phase_shift_deg, spacing):
    """What both of their functions are told, in their units."""
    return {
        "defocus": defocus * 1e-4,
        "voltage": optics.voltage_kv,
        "spherical_aberration": optics.spherical_aberration_mm,
        "amplitude_contrast": optics.amplitude_contrast,
        "phase_shift": phase_shift_deg,
        "pixel_size": spacing,
    }


@given(
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    spacing=_pixels,
    defocus=_defocus,
    astigmatism=st.floats(0.0, 4000.0),
    angle=st.floats(-180.0, 180.0),
    phase_shift=_phases,
    optics=_optics,
)
@settings(max_examples=60, deadline=None)
def test_images(shape, spacing, defocus, astigmatism, angle, phase_shift, optics):
    u, v = defocus + 0.5 * astigmatism, defocus - 0.5 * astigmatism
    ours = ctf_2d(shape, spacing, u, v, angle, optics, phase_shift)
    theirs = calculate_ctf_2d(
        **_theirs(defocus, optics, phase_shift, spacing),
        astigmatism=0.5 * astigmatism * 1e-4,
        astigmatism_angle=angle,
        image_shape=shape,
        rfft=True,
        fftshift=False,
    )
    assert float((ours + theirs).abs().max()) <= _TOLERANCE


@given(samples=st.integers(2, 200), spacing=_pixels, defocus=_defocus, phase_shift=_phases, optics=_optics)
@settings(max_examples=60, deadline=None)
def test_curves(samples, spacing, defocus, phase_shift, optics):
    frequency = torch.linspace(0.0, 0.5, samples, dtype=torch.float64) / spacing
    ours = ctf_1d(frequency, defocus, optics, phase_shift)
    theirs = calculate_ctf_1d(
        **_theirs(defocus, optics, phase_shift, spacing), n_samples=samples, oversampling_factor=1
    )
    assert float((ours + theirs).abs().max()) <= _TOLERANCE
