"""`eucentric initial-model`: a first map without reference."""

import sys
from pathlib import Path
from typing import Annotated, Any

from eucentric.averaging.ab_initio_params import InitialModelParams
from eucentric.cli.chosen_list import chosen_list
from eucentric.cli.options import SETTINGS, SEVERAL, AsJson, Debug, Switch, show_json
from eucentric.cli.progress_lines import shown_parts


def initial_model(
    target: Path,
    /,
    *,
    output: Path,
    settings: Annotated[InitialModelParams, SETTINGS],
    series: Path | None = None,
    kind: Annotated[list[str] | None, SEVERAL] = None,
    device: str = "auto",
    overwrite: Switch = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Make a first map from picks alone: no reference, no orientations, no symmetry.

    Several beginnings from chance orientations; the one that tells most of particles it never saw is kept, and the halves of the
    particles are then aligned apart. With --random-conical-tilt it begins with particles that lie the same way up, from an untilted
    image of each and its tilted ones. Writes map.mrc (protein bright; a --reference for `average --auto`), half1.mrc, half2.mrc,
    mask.mrc, fsc.star, particles.star with poses and halves, and initial_model.json. The hand is that of the tilt geometry. Look
    for symmetry with `eucentric symmetry FOLDER`.

    With --classes K it makes K maps at once, where the list holds several kinds of particle or false picks: each in a folder of
    its own (class_1 the largest), and particles.star with the class (rlnClassNumber) and probabilities of all particles.

    Parameters
    ----------
    target
        list of particles in any known format, or a project with one folder below `pick`; orientations are not looked at
    output
        folder to be made
    series
        aligned series; where not given those that the list was made with (its refinement, or its tomograms where these were levelled
        or refined), else `ctf/tilt_series.star` of its project
    kind
        kinds of particles to take, where the list names them; all where not given
    device
        auto, cpu, cuda or cuda:n
    overwrite
        replace files that exist
    """
    # here, so that --help does not load torch
    from eucentric.compute.device import resolve_device
    from eucentric.pipeline.initial_model import make_initial_model

    del debug  # read by the program itself
    target = chosen_list(target)
    made = make_initial_model(
        target,
        output,
        settings,
        device=resolve_device(device),
        table=series,
        kinds=kind or (),
        overwrite=overwrite,
        on_step=shown_parts(),
    )
    about = made.about
    shown = _classes_in_words(about) if settings.classes > 1 else _map_in_words(about, settings)
    sys.stdout.write(f"{shown}{f'{made.folder} holds it already' if made.was_current else f'Wrote {made.folder}'}.\n")
    for caveat in about["caveats"]:
        sys.stdout.write(f"{caveat}\n")
    if as_json:
        show_json({"exit_code": 0, "folder": str(made.folder), **about})
    return 0


def _map_in_words(about: dict[str, Any], settings: InitialModelParams) -> str:
    count = len(about["held_out_evidence"])
    if settings.random_conical_tilt:
        numbers = "+".join(str(n) for n in about["start_particles"])
        begun = f"{numbers} particles in {count} face{'s' * (count != 1)}, of which the first was kept"
    else:
        begun = f"{about['starts_alike']} of {count} beginnings as good as the best"
    return (
        f"{about['particles']} particles, {about['images']} images; {begun} (held-out log-likelihood "
        f"{about['held_out_evidence'][0]:.0f} a particle); {_agreement(about)}.\n"
    )


def _classes_in_words(about: dict[str, Any]) -> str:
    count, agreement = len(about["held_out_evidence"]), about["agreement_of_starts"]
    lines = [
        f"{about['particles']} particles, {about['images']} images; {about['starts_alike']} of {count} beginnings as good as the best."
    ]
    for one in about["classes"]:
        number = one["particles"]
        words = f"Class {one['class']}: {number} particle{'s' * (number != 1)} ({100.0 * one['share']:.0f}%)"
        if one["folder"] is not None:
            words += f", sure to {one['mean_probability']:.2f}, {_agreement(one)}"
        lines.append(f"{words}.")
    alike = "" if agreement is None else f"; other beginnings agree by {agreement:.2f} (1 wholly, 0 chance)"
    gain = f"{about['held_out_gain']:+.1f} +- {about['held_out_gain_error']:.1f}"
    lines.append(f"Held-out log-likelihood {gain} nats a particle over one map{alike}.")
    for pair in about["likeness"]:
        lines.append(
            f"Maps {pair['a']} and {pair['b']} correlate by {pair['correlation']:.2f} in detail to {pair['detail_angstrom']:.0f} A."
        )
    return "\n".join(lines) + "\n"


def _agreement(about: dict[str, Any]) -> str:
    resolution = about["resolution_angstrom"]
    return "no agreement of the halves" if resolution is None else f"halves agree to {resolution:.1f} A"
