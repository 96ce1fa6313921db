"""What is wrong with an image, beyond its defocus: crystalline ice, no specimen, too much of it."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from eucentric.ctf.results import ThicknessFit
from eucentric.ctf.tile_spectra import TileSpectra, tile_starts
from eucentric.models import CtfFit

_ICE_RINGS = (3.90, 3.67, 3.44)  # A, the three strong rings of hexagonal ice; cubic ice shares the second
_TILE_PX = 512
_TILES = 4  # along each side are enough
_CORE = 1.5  # shells to either side of a ring that it fills
_FLANK = (4.0, 14.0)  # shells to either side that it is compared with
_ICY_SIGMAS = 6.0
_ICY_EXCESS = 0.05
_THICK_ANGSTROM = 3000.0  # near the inelastic path at 300 kV: most electrons have lost energy
_COARSE_ANGSTROM = 12.0  # rings that end here tell defocus, but little of the specimen
_FLAT = 1.3  # power at the start of the band over that at its end, in images of vacuum


def ice_rings(image: Float[Tensor, "y x"], pixel_size: float) -> tuple[float, float]:
    """By how many standard deviations, and by what fraction, the strongest ring of ice stands over its surroundings.

    NaN for both where pixels are too coarse, or the image too small, to show it.
    """
    side = min(_TILE_PX, *(n // 2 * 2 for n in image.shape))
    if 1.08 * 2 * pixel_size > _ICE_RINGS[-1] or side < 128:
        return math.nan, math.nan
    starts = [tile_starts(n, side, 0.0)[: _TILES**2] for n in image.shape]
    starts = [line[:: max(1, len(line) // _TILES)] for line in starts]
    tiles = torch.stack([image[y : y + side, x : x + side] for y in starts[0] for x in starts[1]]).float()
    window = torch.hann_window(side, device=image.device)
    power = (
        torch.fft.rfft2((tiles - tiles.mean((1, 2), keepdim=True)) * window[:, None] * window).abs().square().mean(0)
    )
    y = torch.fft.fftfreq(side, device=image.device)[:, None] * side
    x = torch.arange(side // 2 + 1, device=image.device)
    radius = torch.sqrt(y**2 + x**2)
    best = (-math.inf, 0.0)
    for ring in _ICE_RINGS:
        away = (radius - side * pixel_size / ring).abs()
        clear = torch.ones_like(radius, dtype=torch.bool)
        for other in _ICE_RINGS:
            clear &= (radius - side * pixel_size / other).abs() > 2 * _CORE
        core = away <= _CORE
        flank = (away > _FLANK[0]) & (away <= _FLANK[1]) & clear & (radius < side / 2)
        excess = float(power[core].mean() / power[flank].mean()) - 1.0
        # a Hann window makes 2.25 neighbouring samples one; both halves of the plane hold the same
        sigma = math.sqrt(2.25 / (int(core.sum()) * len(tiles)))
        best = max(best, (excess / sigma, excess))
    return best


def verdicts(fit: CtfFit, thickness: ThicknessFit | None, ice: tuple[float, float]) -> tuple[list[str], list[str]]:
    """One word each, and a sentence each, for what an image with rings suffers from."""
    words, sentences = [], []
    if ice[0] > _ICY_SIGMAS and ice[1] > _ICY_EXCESS:
        words.append("icy")
        sentences.append(
            f"Rings of crystalline ice stand {100 * ice[1]:.0f}% over their surroundings near 3.4 to 3.9 A. "
            "The ice is not vitreous, or ice crystals lie on it."
        )
    if thickness is not None and thickness.thickness_angstrom > _THICK_ANGSTROM:
        words.append("too thick")
        sentences.append(
            f"The specimen is {thickness.thickness_angstrom / 10:.0f} nm thick, about what electrons pass without "
            "losing energy. Choose thinner ice."
        )
    elif fit.max_resolution_angstrom > _COARSE_ANGSTROM:
        words.append("weak rings")
        sentences.append(
            f"Rings are seen to {fit.max_resolution_angstrom:.0f} A only: thick ice, drift, or too little dose."
        )
    return words, sentences


def no_rings_sentence(spectra: TileSpectra) -> str:
    """Why an image may show no rings, by the shape of its spectrum, and what to do."""
    count = spectra.bins.count.sum(0)
    used = spectra.weight[0] > 0
    if not bool(used.any()):
        return "The image is blank: it shows no Thon rings. Check the file, or take another image."
    power = spectra.power[0][used].double().mean(0)
    profile = (power * spectra.bins.count).sum(0) / count.clamp(min=0.5)
    share = max(2, len(profile) // 6)
    last = profile[count > 0][-share:].mean()
    ratio = float(profile[:share].mean() / last) if float(last) > 0 else math.inf
    if ratio < _FLAT:
        return (
            "The image is empty: its spectrum is flat noise and shows no Thon rings. Check that it holds specimen, its pixel "
            "size and its voltage."
        )
    return (
        "The image shows no Thon rings, though something: its spectrum is "
        f"{ratio:.1f} times as strong at its start as at its end. It is too thick, too near to focus, or moved. "
        "Check the pixel size and the voltage, and that the image is not filtered or dose weighted."
    )
