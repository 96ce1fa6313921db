"""Methods in words, for the stages that ran, with citations."""

from collections.abc import Mapping, Sequence
from typing import Any

from eucentric.report.references import REFERENCES

_SENTENCES: Mapping[str, str] = {
    "motion": (
        "The frames of each tilt movie were aligned to each other by correlation, then by maximum likelihood with smooth "
        "motion expected {rubinstein} {motioncor}, and summed."
    ),
    "local motion": (
        "Motion that differed from place to place was fitted as a spline, and kept where it helped frames that took no part "
        "in the fit {zivanov_motion}."
    ),
    "align": (
        "Tilt series were aligned without fiducials: images were brought together coarsely by cross-correlation of "
        "cosine-stretched neighbours {guckenberger}, and shifts and the tilt axis were refined by projection matching "
        "{winkler} {aretomo}; dark images were left out."
    ),
    "align beads": (
        "Tilt series were aligned by gold beads: first shifts by correlation of neighbouring tilts after cosine stretching "
        "{guckenberger}, beads centred by their mean profile {han}, and geometry and points by robust bundle adjustment "
        "{mastronarde}, its model chosen on held-out beads."
    ),
    "align patches": (
        "Tilt series without enough beads were aligned by correlation of neighbouring tilts after cosine stretching "
        "{guckenberger}, by matching each image with the projection of what the others show {winkler} {aretomo}, and by patches "
        "followed in the same way, solved by robust bundle adjustment {mastronarde}."
    ),
    "align local": (
        "Deformation of the specimen with dose was part of the adjustment {fernandez} where it predicted what was held out."
    ),
    "align centre-of-mass": (
        "Tilt series were aligned, and the tilt axis was found, by the projected centre of mass of the specimen "
        "{scott}."
    ),
    "align none": "The alignment of the images was taken as imported.",
    "ctf": (
        "{parameters} of each tilt were fitted to its power spectrum {rohou}{inclined}, in one fit of the series{start} "
        "{tegunov}."
    ),
    "ctf imported": (
        "Defocus and astigmatism of the tilts were taken over from another program and compared with their power spectra "
        "{rohou}."
    ),
    "ctf thickness": "The thickness of the specimen was looked for in the nodes of the Thon rings {elferich}.",
    "beads": "Gold beads were found in the images and replaced by the background and noise around them.",
    "ctf flip": "Phases of the contrast transfer were flipped in the images{strips}.",
    "ctf wiener": "Images were corrected for the contrast transfer by a Wiener filter{strips}.",
    "ctf multiply": "Images were multiplied by their contrast transfer functions{strips}.",
    "reconstruct": "{tomograms} were reconstructed by weighted back-projection {radermacher}.",
    "reconstruct exact": (
        "{tomograms} were reconstructed by weighted back-projection {radermacher}, with weights for the tilt angles as "
        "they were and the thickness of the volume {harauz}."
    ),
    "reconstruct none": "{tomograms} were reconstructed by back-projection without weighting.",
    "reconstruct sirt-like": (
        "{tomograms} were reconstructed by back-projection {radermacher} with weights that give what {count} iterations of "
        "SIRT {gilbert} would."
    ),
    "reconstruct sirt": "{tomograms} were reconstructed by simultaneous iterative reconstruction (SIRT) {gilbert}.",
    "reconstruct sart": (
        "{tomograms} were reconstructed by simultaneous algebraic reconstruction (SART) {andersen} with ordered subsets "
        "of tilts."
    ),
    "reconstruct cgls": "{tomograms} were reconstructed by least squares with conjugate gradients {hestenes}.",
    "reconstruct tikhonov": (
        "{tomograms} were reconstructed by least squares with Tikhonov regularisation, by conjugate gradients {hestenes}."
    ),
    "reconstruct tv": (
        "{tomograms} were reconstructed by least squares with total variation, by a primal-dual method {chambolle} {pock}."
    ),
    "reconstruct fourier": (
        "{tomograms} were reconstructed by direct Fourier inversion, box by box, each section weighted for its overlap with "
        "the others {harauz}."
    ),
    "reconstruct ctf": (
        "{tomograms} were reconstructed by inverting the model of projection and contrast transfer{heights}, "
        "against the noise measured between half images, by conjugate gradients {hestenes}."
    ),
    "reconstruct ctf assumed": (
        "{tomograms} were reconstructed by inverting the model of projection and contrast transfer{heights}, "
        "against a typical ratio of signal to noise, by conjugate gradients {hestenes}."
    ),
    "dose": "Radiation damage was weighted for in the reconstruction {grant}.",
    "denoise network": (
        "To be looked at, tomograms were denoised by a 3D U-Net {cicek}{training}{shells}; nothing was averaged from these."
    ),
    "denoise gaussian": "To be looked at, tomograms were smoothed by a Gaussian.",
    "denoise median": "To be looked at, tomograms were smoothed by a median filter.",
    "denoise bilateral": "To be looked at, tomograms were smoothed by a bilateral filter {tomasi}.",
    "denoise nad": "To be looked at, tomograms were denoised by anisotropic diffusion {frangakis}.",
    "denoise nlm": "To be looked at, tomograms were denoised by non-local means {buades}.",
    "denoise wavelet": "To be looked at, tomograms were denoised scale by scale in wavelets {mihcak}.",
    "denoise deconvolve": "To be looked at, tomograms were deconvolved from their contrast transfer {tegunov}.",
    "fill-wedge network": (
        "To be looked at, the missing wedge of tomograms was filled by a 3D U-Net {cicek}{training}{shells}{measured}; nothing was "
        "averaged from these."
    ),
    "fill-wedge constrained": (
        "To be looked at, the missing wedge of tomograms was filled by the least total variation that agrees with the data"
        "{contrast}, by a primal-dual method {chambolle}{measured}; nothing was averaged from these."
    ),
    "segment network": "Membranes were segmented by a 3D U-Net {cicek} that was trained on {data}.",
    "segment votes": (
        "Membranes were segmented without training: by a filter for bilayers and tensor voting {martinez}, with levels set by noise."
    ),
    "pick": (
        "Particles were found by template matching with locally normalised correlation {roseman} of whitened tomograms, templates "
        "weighted by what the tilts showed of them {chaillet}{decoys}."
    ),
    "pick blobs": (
        "Round particles were found without templates, as maxima of a difference of Gaussians {marr}{share}."
    ),
    "pick network": (
        "Particles were found by a convolutional network that draws a map of each kind {moebel}, with scores calibrated on what was "
        "held out of its training {platt}."
    ),
    "initial model": (
        "First maps were made from picks alone, without a reference, by stochastic gradient descent over all orientations {punjani}."
    ),
    "average": (
        "Particles were averaged from the tilt images themselves {burt}, weighted for contrast transfer{dose} and noise{symmetry}."
    ),
    "average helix": "Helical symmetry was imposed on the average of filaments {he}.",
    "average iterated": (
        "Their orientations and places were refined by the likelihood of the tilt images {scheres_averaging}, each half of the "
        "particles against its own reference {scheres_chen}."
    ),
    "average resolution": (
        "Resolutions of averages are where the Fourier shell correlation of half maps falls below 0.143, corrected for the mask by "
        "randomised phases {chen_noise}."
    ),
    "average sharpened": "Averages were sharpened for the fall of their amplitudes {rosenthal}.",
    "average local": "Local resolution was measured by correlation of the half maps in windows {cardone}.",
    "classify": (
        "Particles were sorted into classes by maximum likelihood {scheres_averaging}, each compared with classes that it took no "
        "part in."
    ),
    "refine": (
        "Tilt series and particles were then refined together against the images, by maps of half sets of the particles in them "
        "{tegunov_m} {zivanov_tomography} {himes}{kept}."
    ),
}


def methods(stages: Mapping[str, Sequence[Mapping[str, Any]]], version: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs and numbered references, in the order of citation.

    Parameters
    ----------
    stages : names of the stages that ran, with the settings of every series as they were used: nothing is ``auto`` any
        more, and where the images had no halves, ``has_halves`` is False
    version : of the product
    """
    numbers: dict[str, int] = {}
    paragraphs = [f"Data were processed with Eucentric {version}."]
    said: dict[str, dict[str, str]] = {}
    for stage, settings in stages.items():
        for one in settings:
            said.update(_said(stage, one))
    if groups := sorted(
        {str((one.get("average") or {}).get("symmetry", "C1")) for one in stages.get("average", ())} - {"C1"}
    ):
        said["average"]["symmetry"] = f", some with symmetry imposed ({', '.join(groups)})"
    if borne_out := list(dict.fromkeys(group for one in stages.get("refine", ()) for group in one.get("kept", ()))):
        said["refine"]["kept"] = f"; of what was changed, particles held out of the fit bore out {_listed(borne_out)}"
    several = sum(key.split(" ")[0] == "reconstruct" for key in said) > 1
    for key, sentence in _SENTENCES.items():
        if key in said:
            words = {"tomograms": "Some tomograms" if several else "Tomograms"} | said[key]
            for name, text in words.items():
                sentence = sentence.replace(f"{{{name}}}", text)
            cited = sorted((s for s in REFERENCES if f"{{{s}}}" in sentence), key=lambda s: sentence.index(f"{{{s}}}"))
            for source in cited:
                numbers.setdefault(source, len(numbers) + 1)
            paragraphs.append(sentence.format(**{source: f"[{numbers[source]}]" for source in cited}))
    return tuple(paragraphs), tuple(REFERENCES[key].text for key in numbers)


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _said(stage: str, settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The sentences that are true of a stage with these settings, and words that go into them."""
    if stage == "reconstruct":
        return _said_of_reconstruction(settings)
    if stage == "motion":
        said: dict[str, dict[str, str]] = {"motion": {}}
        if settings.get("local", "off") == "auto":
            said["local motion"] = {}
        return said
    if stage == "ctf":
        return _said_of_ctf(settings)
    if stage == "pick":
        return _said_of_picks(settings)
    if stage == "average":
        return _said_of_average(settings)
    if stage == "refine":
        return {"refine": {"kept": ""}}
    if stage in ("denoise", "fill-wedge"):
        return _said_of_restoration(stage, settings)
    if stage == "segment":
        data = "simulated tomograms" if settings.get("model", "shipped") == "shipped" else "labelled tomograms"
        return {f"segment {settings.get('method', 'network')}": {"data": data}}
    if stage != "align":
        return {stage: {}}
    choice = settings.get("method", "projection")
    aligned: dict[str, dict[str, str]] = {
        stage if choice in ("projection", "matching", "auto") else f"{stage} {choice}": {}
    }
    if settings.get("deformed"):
        aligned["align local"] = {}
    return aligned


def _said_of_picks(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    method = settings.get("method")
    if method == "blobs":
        share = 100.0 * float(settings.get("max_q_value", 0.05))
        counted = f", down to a share of {share:g}% false ones as counted among those of the other contrast"
        return {"pick blobs": {"share": "" if settings.get("min_score") is not None else counted}}
    if method == "network":
        return {"pick network": {}}
    return {"pick": {"decoys": _cut_off(settings)}}


_TRAINING = {
    "shipped": " that was trained on simulated tomograms",
    "denoise": " that was trained from one half volume to the other {lehtinen} {buchholz}",
    "fill-wedge": " that was trained on turned tomograms with a wedge cut out anew {liu} {wiedemann}",
}


def _said_of_restoration(stage: str, settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    method, model = settings.get("method", "network"), settings.get("model", "shipped")
    weighed = settings.get("weigh_shells", True) and settings.get("has_halves", True) and not settings.get("hard_data")
    words = {
        "training": _TRAINING["shipped" if model == "shipped" else stage],
        "shells": ", weighed against the raw ones in each shell, where there is matter, as half volumes support"
        if weighed
        else "",
        "measured": ", with all that was measured left as it was" if settings.get("hard_data") else "",
        "contrast": " and has one contrast" if settings.get("matter") in ("dark", "bright") else "",
    }
    return {f"{stage} {method}": words}


def _said_of_average(about: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Of the record of an average, with whether it was iterated."""
    settings, extract = about.get("average") or {}, about.get("extract") or {}
    words = {
        "dose": ", radiation damage" if extract.get("dose_weighting", True) else "",
        "symmetry": "",
    }
    found = {
        "average helix": settings.get("helical_rise_angstrom"),
        "average iterated": about.get("iterated"),
        "average resolution": about.get("resolution_angstrom"),
        "average sharpened": about.get("sharpened"),
        "average local": about.get("local_resolution"),
    }
    return {"average": words} | {key: {} for key, known in found.items() if known}


def _cut_off(settings: Mapping[str, Any]) -> str:
    """How picks were told from chance."""
    if settings.get("decoys", "scrambled") == "none":
        return ", above the level that chance passes once {rickgauer}"
    share = 100.0 * float(settings.get("false_discovery_rate", 0.05))
    return f", down to a share of {share:g}% false picks by the competition with decoys {{elias}}"


def _said_of_ctf(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    method = settings.get("method", "fit")
    if method == "imported":
        return {"ctf imported": {}}
    shifted = settings.get("phase_shift") == "fit"
    said = {
        "ctf": {
            "parameters": "Defocus, astigmatism and phase shift" if shifted else "Defocus and astigmatism",
            "start": ", which began at imported estimates" if method == "refine" else "",
            "inclined": ", the inclination of the specimen taken into account {elferich}"
            if settings.get("inclination", True)
            else "",
        }
    }
    if settings.get("thickness"):
        said["ctf thickness"] = {}
    return said


def _said_of_reconstruction(settings: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    method = settings.get("method", "wbp")
    said: dict[str, dict[str, str]] = {}
    if settings.get("erase_beads"):
        said["beads"] = {}
    correction = settings.get("ctf_correction", "none")
    if correction != "none" and method == "fourier":
        said["ctf wiener"] = {"strips": ", for every box at its own height"}
    elif correction != "none" and method != "ctf":
        strips = " in strips along the tilt axis {xiong}" if settings.get("ctf_by_height", True) else ""
        if settings.get("ctf_by_depth") and method in ("wbp", "sirt-like"):
            strips = f"{strips}, anew for every depth of the specimen {{turonova}}"
        said[f"ctf {correction}"] = {"strips": strips}
    key, words = method, {}
    if method == "wbp":
        key = settings.get("filter", "ramp")
    elif method == "sirt-like":
        words = {"count": str(settings.get("sirt_like_iterations") or 15)}
    elif method == "sirt" and settings.get("subsets", 1) > 1:
        key = "sart"
    elif method == "cgls" and settings.get("regularisation") != 0:
        key = "tikhonov"
    elif method == "ctf":
        key = "ctf" if settings.get("has_halves", True) else "ctf assumed"
        follows = ", which follows the height of every point {jensen} {turonova}"
        words = {"heights": follows if settings.get("ctf_by_height", True) else ""}
    said["reconstruct" if key == "ramp" else f"reconstruct {key}"] = words
    if settings.get("dose_weighting"):
        said["dose"] = {}
    return said
