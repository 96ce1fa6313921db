"""`eucentric validate`."""

import sys
from collections.abc import Callable
from pathlib import Path

from eucentric.cli.options import AsJson, Debug, show_json
from eucentric.errors import EucentricError
from eucentric.io.findings import Finding


def _kinds() -> dict[tuple[str, ...], Callable[[Path], list[Finding]]]:
    """By endings: what finds the faults of such a file."""
    # here, so that --help does not load pandas
    from eucentric.io.em import validate_em
    from eucentric.io.mdoc import validate_mdoc
    from eucentric.io.movies import open_movie
    from eucentric.io.mrc import validate_mrc
    from eucentric.io.star import validate_star
    from eucentric.pipeline.plan import Plan

    def validate_movie(path: Path) -> list[Finding]:
        with open_movie(path) as movie:
            notes = [Finding(severity="note", text=f"`{path}`: {note}") for note in movie.header.notes]
            for _ in movie.blocks(1):  # a damaged frame is an error
                pass
        return notes

    def validate_plan(path: Path) -> list[Finding]:
        Plan.load(path.parent)
        return []

    return {
        (".star",): validate_star,
        (".mdoc",): validate_mdoc,
        (".em",): validate_em,
        (".tif", ".tiff", ".eer"): validate_movie,
        (".toml",): validate_plan,
        (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map", ".preali", ".gz", ".bz2"): validate_mrc,
    }


def _findings(path: Path) -> list[Finding]:
    kinds = _kinds()
    check = next((c for endings, c in kinds.items() if path.suffix.lower() in endings), None)
    if check is None:
        known = " ".join(ending for endings in kinds for ending in endings)
        return [Finding(severity="error", text=f"`{path}` is of a kind that cannot be checked. Known are {known}.")]
    try:
        return list(check(path))
    except EucentricError as error:
        return [Finding(severity="error", text=str(error))]


def validate(
    *files: Path,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Check files of any format that Eucentric reads, and list every fault. Exit code 1 where a file is unusable.

    Parameters
    ----------
    files
        MRC (packed too), TIFF, EER, EM, STAR or mdoc files, or an `eucentric.toml`
    """
    del debug  # read by the program itself
    every = {str(path): _findings(path) for path in files}
    for path, findings in every.items():
        for finding in findings:
            sys.stdout.write(f"{finding.severity}: {finding.text}\n")
        if not findings:
            sys.stdout.write(f"{path}: nothing to object to\n")
    unusable = [p for p, findings in every.items() if any(f.severity == "error" for f in findings)]
    if as_json:
        told = {p: [{"severity": f.severity, "text": f.text} for f in findings] for p, findings in every.items()}
        show_json({"exit_code": int(bool(unusable)), "files": told})
    return 1 if unusable else 0
