"""How the rings of a series agree with a CTF that was not fitted here."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from eucentric.ctf.acquisition_order import AcquisitionOrder
from eucentric.ctf.check_inputs import check_series
from eucentric.ctf.describe_fit import hand_caveats
from eucentric.ctf.fit_defocus import LEAST_EVIDENCE, DefocusFit, fisher_information, ring_evidence
from eucentric.ctf.fit_inclination import LEVEL
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import CtfResult
from eucentric.ctf.ring_model import RingModel, collapse, start_model, update_curves
from eucentric.ctf.ring_statistics import RingStatistics
from eucentric.ctf.solve_series import Solution, View, compare_hands, measured_plane, place_rings, used_hand
from eucentric.ctf.spectrum_curves import fitted_resolution, measure_curves, ring_score
from eucentric.ctf.tile_spectra import TileSpectra, measure_series_spectra
from eucentric.errors import ShapeError
from eucentric.geometry import TiltGeometry
from eucentric.models import CtfFit, Optics, Specimen

_REACH, _STEP = 2000.0, 50.0  # A about the given defocus
_FAR = 300.0  # A by which the rings of most tilts must disagree to be worth a word


def judge_given_ctf(
    images: Float[Tensor, "tilt y x"],
    geometry: TiltGeometry,
    fits: Sequence[CtfFit],
    *,
    source: str,
    pixel_size: float,
    optics: Optics,
    params: CtfParams | None = None,
    hand: float = -1.0,
    acquisition: ArrayLike | None = None,
    specimen: Specimen | None = None,
) -> CtfResult:
    """The given defocus, astigmatism and phase shift as they are, with spectra, fit resolution and hand measured.

    Parameters
    ----------
    images, geometry, pixel_size, optics, params, hand, acquisition, specimen : as for
        :func:`eucentric.ctf.estimate_series_ctf`
    fits : one for each tilt, at the height of the specimen centre
    source : whose they are, for words

    Raises
    ------
    ShapeError, InputError : as for :func:`eucentric.ctf.estimate_series_ctf`, or not as many fits as images
    """
    params = params or CtfParams()
    order = np.asarray(range(len(images)) if acquisition is None else acquisition, dtype=np.float64)
    check_series(images, geometry, pixel_size, hand, None, order)
    if len(fits) != len(images):
        raise ShapeError(f"{len(fits)} estimates were given for {len(images)} images; expected one for each.")
    spectra = measure_series_spectra(images, pixel_size, params)
    view = View(
        geometry=geometry,
        order=AcquisitionOrder.build(order, images.device),
        height_angstrom=0.0,
        plane=measured_plane(specimen, params),
    )
    plane = view.plane or LEVEL
    solutions = {sign: _solution(spectra, view, fits, sign, optics, params) for sign in (1.0, -1.0)}
    test = compare_hands(solutions, view, hand, optics, params)
    used = used_hand(test, params)
    chosen = solutions[used]
    model = chosen.fit.model
    curves, samples = measure_curves(spectra, chosen.offsets, model, optics)
    evidence = np.asarray(chosen.fit.evidence.cpu().numpy())
    failed = tuple(int(t) for t in np.flatnonzero(~(evidence >= LEAST_EVIDENCE)))
    measured = tuple(
        replace(
            fit,
            score=math.nan if t in failed else float(score),
            max_resolution_angstrom=math.nan if t in failed else float(resolution),
        )
        for t, (fit, score, resolution) in enumerate(
            zip(fits, ring_score(curves, samples), fitted_resolution(curves), strict=True)
        )
    )
    return CtfResult(
        fits=measured,
        failed=failed,
        hand=used,
        hand_test=test,
        inclination_x_deg=plane.x_deg,
        inclination_y_deg=plane.y_deg,
        inclination_x_sigma_deg=plane.x_sigma_deg,
        inclination_y_sigma_deg=plane.y_sigma_deg,
        thickness=None,
        likely_pixel_scale=1.0,
        phase_shift_sigma_deg=np.zeros(len(fits)),
        evidence=evidence,
        curves=curves,
        caveats=(
            *_disagreement(chosen.statistics, model, failed, optics, source),
            *hand_caveats(test, float(np.median(geometry.z_rot_deg)), params),
        ),
        spectra=spectra,
        model=model,
    )


def _solution(
    spectra: TileSpectra, view: View, fits: Sequence[CtfFit], hand: float, optics: Optics, params: CtfParams
) -> Solution:
    """The given values as if they had been fitted: background and strength of the rings follow them."""
    plane = view.plane or LEVEL
    statistics, offsets = place_rings(spectra, view, hand, optics, plane)
    defocus = torch.tensor([f.defocus_angstrom for f in fits], dtype=torch.float64, device=offsets.device)
    half = [0.5 * (f.defocus_u_angstrom - f.defocus_v_angstrom) for f in fits]
    twice = [math.radians(2 * f.astigmatism_angle_deg) for f in fits]
    parts = [[h * math.cos(a), h * math.sin(a)] for h, a in zip(half, twice, strict=True)]
    model = start_model(statistics, defocus).replace(
        astigmatism=torch.tensor(parts, dtype=torch.float64, device=offsets.device),
        phase_shift=torch.tensor(
            [math.radians(f.phase_shift_deg) for f in fits], dtype=torch.float64, device=offsets.device
        ),
    )
    for _ in range(2):
        model = update_curves(statistics, model, optics)
    fit = DefocusFit(
        model=model,
        information=fisher_information(statistics, model, optics, params),
        precision=torch.zeros_like(defocus),
        spread=params.defocus_spread_angstrom,
        expected=defocus,
        evidence=ring_evidence(statistics, model, optics),
    )
    return Solution(statistics=statistics, offsets=offsets, fit=fit, inclination=plane, testimony=(statistics, model))


def _disagreement(
    statistics: RingStatistics, model: RingModel, failed: tuple[int, ...], optics: Optics, source: str
) -> list[str]:
    """Where the rings lie elsewhere, in words."""
    count = len(model.defocus)
    out = []
    if failed:
        out.append(
            f"At {len(failed)} of {count} tilts no rings stand where {source} puts them. To fit them from the images: "
            "--method refine."
        )
    seen = [t for t in range(count) if t not in failed]
    if not seen:
        return out
    grid = torch.arange(-_REACH, _REACH + 1, _STEP, dtype=torch.float64, device=model.defocus.device)
    gain = collapse(statistics, model, optics).gain(model.defocus[:, None] + grid, optics)
    away = grid[gain.argmax(1)][seen]
    middle = float(away.median())
    if abs(middle) > _FAR:
        out.append(
            f"The rings speak for a defocus {middle:+.0f} A from that of {source} (median of {len(seen)} tilts). Check the pixel "
            "size and the optics that it was given, or use --method refine."
        )
    return out
