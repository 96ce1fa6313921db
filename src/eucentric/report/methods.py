"""Methods in words, for the stages that ran, with citations."""

from collections.abc import Collection, Mapping

_SENTENCES: Mapping[str, str] = {
    "motion": "The frames of each tilt movie were aligned to each other by cross-correlation and summed.",
    "align": (
        "Tilt series were aligned without fiducials: images were brought together coarsely by cross-correlation, and "
        "shifts and the tilt axis were refined; dark images were left out."
    ),
    "ctf": (
        "Defocus and astigmatism of each tilt were fitted to its power spectrum, the inclination of the specimen taken "
        "into account {rohou} {elferich} {tegunov}."
    ),
    "reconstruct": (
        "Tomograms were reconstructed by weighted back-projection {radermacher}; radiation damage was weighted for "
        "where the settings ask for it {grant}."
    ),
}
_REFERENCES: Mapping[str, str] = {
    "rohou": "Rohou & Grigorieff, J. Struct. Biol. 192:216 (2015), doi:10.1016/j.jsb.2015.08.008",
    "elferich": "Elferich, Kong, Zottig & Grigorieff, eLife 13:RP97227 (2024), doi:10.7554/eLife.97227",
    "tegunov": "Tegunov & Cramer, Nat. Methods 16:1146 (2019), doi:10.1038/s41592-019-0580-y",
    "radermacher": "Radermacher, in Electron Tomography, 2nd ed. (2006), ch. 8, doi:10.1007/978-0-387-69008-7_9",
    "grant": "Grant & Grigorieff, eLife 4:e06980 (2015), doi:10.7554/eLife.06980",
}


def methods(stages: Collection[str], version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs and numbered references, in the order of citation.

    Parameters
    ----------
    stages : names of the stages that ran
    version : of the product
    """
    numbers: dict[str, int] = {}
    paragraphs = [f"Data were processed with Eucentric {version}."]
    for stage, sentence in _SENTENCES.items():
        if stage in stages:
            cited = [key for key in _REFERENCES if f"{{{key}}}" in sentence]
            for key in sorted(cited, key=sentence.index):
                numbers.setdefault(key, len(numbers) + 1)
            paragraphs.append(sentence.format(**{key: f"[{numbers[key]}]" for key in cited}))
    return tuple(paragraphs), tuple(_REFERENCES[key] for key in numbers)
