"""Methods in words, for the stages that ran, with citations."""

from collections.abc import Mapping
from typing import Any

_SENTENCES: Mapping[str, str] = {
    "motion": (
        "The frames of each tilt movie were aligned to each other by correlation, then by maximum likelihood with smooth "
        "motion expected {rubinstein} {motioncor}, and summed."
    ),
    "align": (
        "Tilt series were aligned without fiducials: images were brought together coarsely by cross-correlation of "
        "cosine-stretched neighbours {guckenberger}, and shifts and the tilt axis were refined by projection matching "
        "{winkler} {aretomo}; dark images were left out."
    ),
    "align centre-of-mass": (
        "Tilt series were aligned, and the tilt axis was found, by the projected centre of mass of the specimen "
        "{scott}."
    ),
    "align none": "The alignment of the images was taken as imported.",
    "ctf": (
        "Defocus and astigmatism of each tilt were fitted to its power spectrum, the inclination of the specimen taken "
        "into account {rohou} {elferich} {tegunov}."
    ),
    "reconstruct": "Tomograms were reconstructed by weighted back-projection {radermacher}.",
    "reconstruct none": "Tomograms were reconstructed by back-projection without weighting.",
    "dose": "Radiation damage was weighted for in the reconstruction {grant}.",
}
_REFERENCES: Mapping[str, str] = {
    "rubinstein": "Rubinstein & Brubaker, J. Struct. Biol. 192:188 (2015), doi:10.1016/j.jsb.2015.08.007",
    "motioncor": "Zheng et al., Nat. Methods 14:331 (2017), doi:10.1038/nmeth.4193",
    "guckenberger": "Guckenberger, Ultramicroscopy 9:167 (1982)",
    "winkler": "Winkler & Taylor, Ultramicroscopy 106:240 (2006), doi:10.1016/j.ultramic.2005.07.007",
    "aretomo": "Zheng et al., J. Struct. Biol. X 6:100068 (2022), doi:10.1016/j.yjsbx.2022.100068",
    "scott": "Scott et al., Nature 483:444 (2012), doi:10.1038/nature10934",
    "rohou": "Rohou & Grigorieff, J. Struct. Biol. 192:216 (2015), doi:10.1016/j.jsb.2015.08.008",
    "elferich": "Elferich, Kong, Zottig & Grigorieff, eLife 13:RP97227 (2024), doi:10.7554/eLife.97227",
    "tegunov": "Tegunov & Cramer, Nat. Methods 16:1146 (2019), doi:10.1038/s41592-019-0580-y",
    "radermacher": "Radermacher, in Electron Tomography, 2nd ed. (2006), ch. 8, doi:10.1007/978-0-387-69008-7_9",
    "grant": "Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980",
}


def methods(stages: Mapping[str, Mapping[str, Any]], version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs and numbered references, in the order of citation.

    Parameters
    ----------
    stages : names of the stages that ran, with their settings
    version : of the product
    """
    numbers: dict[str, int] = {}
    paragraphs = [f"Data were processed with Eucentric {version}."]
    said = _said(stages)
    for key, sentence in _SENTENCES.items():
        if key in said:
            cited = [source for source in _REFERENCES if f"{{{source}}}" in sentence]
            for source in sorted(cited, key=sentence.index):
                numbers.setdefault(source, len(numbers) + 1)
            paragraphs.append(sentence.format(**{source: f"[{numbers[source]}]" for source in cited}))
    return tuple(paragraphs), tuple(_REFERENCES[key] for key in numbers)


def _said(stages: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Which of the sentences are true of the stages that ran."""
    said = set(stages)
    for stage, setting, usual in (("align", "method", "matching"), ("reconstruct", "filter", "ramp")):
        choice = stages.get(stage, {}).get(setting, usual)
        if choice != usual:
            said = (said - {stage}) | {f"{stage} {choice}"}
    if stages.get("reconstruct", {}).get("dose_weighting"):
        said.add("dose")
    return said
