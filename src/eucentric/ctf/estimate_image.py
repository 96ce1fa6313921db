"""CTF of single images: to check a microscope, and for particle images."""

import numpy as np
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.check_inputs import check_pixels
from eucentric.ctf.describe_fit import outside_sentence, value_caveats
from eucentric.ctf.estimate_ctf import describe_tilts, phase_shift_sigmas
from eucentric.ctf.judge_image import ice_rings, no_rings_sentence, verdicts
from eucentric.ctf.noise_chance import LARGEST_CHANCE, noise_chance
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import ImageCtf
from eucentric.ctf.search_outside import defocus_outside
from eucentric.ctf.solve_series import (
    View,
    best_start,
    likely_pixel_scale,
    measure_thickness,
    solve_series,
)
from eucentric.ctf.tile_spectra import measure_series_spectra, measure_tile_spectra
from eucentric.errors import ProcessingError, ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.models import Optics


def estimate_image_ctf(
    image: Float[Tensor, "y x"] | Float[Tensor, "tile y x"],
    *,
    pixel_size: float,
    optics: Optics,
    params: CtfParams | None = None,
    nominal_defocus_angstrom: float | None = None,
) -> ImageCtf:
    """Defocus and astigmatism of one untilted image, or of square tiles that share them (such as particle images).

    The whole range of defocus (and of phase shift, where asked for) is searched, then astigmatism, then all is refined.

    Raises
    ------
    ShapeError : too small, or tiles that are not square
    InputError : NaN or infinity, a pixel size that is not positive
    ProcessingError : no rings; the message says whether the image looks blank, empty or too thick
    """
    params = (params or CtfParams()).replace(inclination=False)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[1] != image.shape[2]):
        raise ShapeError(
            f"The image has shape {tuple(image.shape)}; expected (y, x), or square tiles (tile, side, side)."
        )
    tiled = image.ndim == 3
    stack = image if tiled else image[None]
    check_pixels(stack, pixel_size, "tile" if tiled else "")
    spectra = (measure_tile_spectra if tiled else measure_series_spectra)(stack, pixel_size, params)
    view = View(
        geometry=TiltGeometry.build(0.0), order=AcquisitionOrder.build(np.zeros(1), image.device), height_angstrom=0.0
    )
    start = best_start(spectra, view, 1.0, optics, params, nominal_defocus_angstrom)
    solution = solve_series(spectra, view, 1.0, start, optics, params)
    outside = defocus_outside(spectra, view, 1.0, optics, params, solution.fit)
    if noise_chance(solution.fit.evidence.cpu().numpy(), spectra.bins, optics, params) > LARGEST_CHANCE:
        raise ProcessingError(
            no_rings_sentence(spectra)
            if outside is None
            else f"The image shows no Thon rings within the range. {outside_sentence(outside, params)}"
        )
    scale = likely_pixel_scale(spectra, solution, view, 1.0, optics, params)
    solution, thickness = measure_thickness(solution, view, optics, params)
    fits, curves = describe_tilts(spectra, solution, view, (), optics, params)
    ice = (float("nan"), float("nan")) if tiled else ice_rings(image, pixel_size)
    words, sentences = verdicts(fits[0], thickness, ice)
    return ImageCtf(
        fit=fits[0],
        evidence=float(solution.fit.evidence[0]),
        thickness=thickness,
        phase_shift_sigma_deg=float(phase_shift_sigmas(solution, view, params)[0]),
        ice=ice[0],
        verdicts=tuple(words),
        curves=curves,
        caveats=(*value_caveats(fits, (), nominal_defocus_angstrom, scale, params, outside), *sentences),
    )
