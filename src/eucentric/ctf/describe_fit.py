"""What a fit says in words: what to mistrust, and what to do."""

import numpy as np

from eucentric.ctf.fit_inclination import Inclination
from eucentric.ctf.params import CtfParams
from eucentric.ctf.results import HandTest
from eucentric.ctf.solve_series import used_hand
from eucentric.models import CtfFit

_NOMINAL_TOLERANCE = 10_000.0  # A; a microscope's own defocus is rarely further off


def value_caveats(
    fits: tuple[CtfFit, ...],
    failed: tuple[int, ...],
    nominal: float | None,
    pixel_scale: float,
    params: CtfParams,
    outside: float | None = None,
) -> list[str]:
    """Of the values themselves.

    Parameters
    ----------
    outside : A, what the rings fit clearly better, outside the searched range
    """
    out = []
    if failed:
        listed = ", ".join(str(t + 1) for t in failed)
        out.append(f"No Thon rings in image {listed} (in order of tilt); the defocus is that of the neighbours.")
    good = np.array([f.defocus_angstrom for t, f in enumerate(fits) if t not in failed])
    edges = (params.minimum_defocus_angstrom, params.maximum_defocus_angstrom)
    if outside is not None:
        out.append(outside_sentence(outside, params))
    elif any(abs(d - edge) < 100.0 for d in good for edge in edges):
        out.append(
            f"A defocus lies at the end of the searched range ({edges[0]:.0f} to {edges[1]:.0f} A). Widen it with "
            "--minimum-defocus-angstrom or --maximum-defocus-angstrom."
        )
    if outside is None and nominal is not None and abs(float(np.median(good)) - nominal) > _NOMINAL_TOLERANCE:
        out.append(
            f"The fitted defocus ({np.median(good):.0f} A) is far from the nominal one ({nominal:.0f} A). "
            "Check the pixel size, and look at the fits."
        )
    if pixel_scale != 1.0:
        out.append(
            f"The rings fit a pixel size {pixel_scale:g} times the given one clearly better. "
            "Check the pixel size (--pixel-size at import)."
        )
    shifts = np.array([f.phase_shift_deg for f in fits])
    low, high = params.phase_shift_range_deg
    if params.phase_shift == "fit" and bool(np.any((shifts - low < 1.0) | (high - shifts < 1.0))):
        out.append(
            f"A phase shift lies at the end of the searched range ({low:.0f} to {high:.0f} degrees). "
            'Was a phase plate used? Without one, set phase_shift = "off".'
        )
    return out


def outside_sentence(defocus_angstrom: float, params: CtfParams) -> str:
    """Rings lie outside the searched range."""
    low, high = params.minimum_defocus_angstrom, params.maximum_defocus_angstrom
    below = defocus_angstrom < low
    return (
        f"The rings fit a defocus of {defocus_angstrom:.0f} A, outside the searched range ({low:.0f} to {high:.0f} A). "
        f"Widen it with {'--minimum-defocus-angstrom' if below else '--maximum-defocus-angstrom'}."
    )


def hand_caveats(test: HandTest, axis_deg: float, params: CtfParams) -> list[str]:
    """Of the hand, and of the direction of the tilt axis.

    Parameters
    ----------
    axis_deg : tilt axis of the geometry
    params : whose hand goes before the images'
    """
    used = used_hand(test, params)
    told = f"({test.sigmas:.1f} standard errors)"
    if not test.decided:
        if params.hand != "auto":
            return []
        return [
            f"The images do not tell the hand {told}; {used:+.0f}, as imported, was kept. If another series of the same "
            f"microscope tells {-used:+.0f}: `eucentric ctf PROJECT --hand {-used:.0f}`."
        ]
    turned = f"the tilt axis points the other way: import again with --tilt-axis {_turned(axis_deg):.1f}."
    if test.hand != used:
        return [
            f"The hand was set to {used:+.0f}, and the images say {test.hand:+.0f} {told}. To follow them: "
            f"`eucentric ctf PROJECT --hand auto`. If {used:+.0f} is known to be right, {turned}"
        ]
    if test.hand == test.given or params.hand != "auto":
        return []
    return [
        f"The images say hand {test.hand:+.0f} {told}, not {test.given:+.0f} as imported; {test.hand:+.0f} is used. To use it "
        f"for all series: `eucentric ctf PROJECT --hand {test.hand:.0f}`. If {test.given:+.0f} is known to be right, {turned}"
    ]


def _turned(axis_deg: float) -> float:
    return (axis_deg + 360.0) % 360.0 - 180.0


def inclination_caveats(inclination: Inclination) -> list[str]:
    """Of a plane that is not level in the geometry."""
    if not inclination.significant:
        return []
    return [
        f"The specimen is inclined by {inclination.x_deg:.1f} +- {inclination.x_sigma_deg:.1f} degrees about x and "
        f"{inclination.y_deg:.1f} +- {inclination.y_sigma_deg:.1f} about y; the fit accounts for it."
    ]
