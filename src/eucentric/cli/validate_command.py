"""`eucentric validate`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eucentric.errors import EucentricError
from eucentric.io.em import validate_em
from eucentric.io.findings import Finding
from eucentric.io.mdoc import validate_mdoc
from eucentric.io.movies import read_movie
from eucentric.io.mrc import validate_mrc
from eucentric.io.star import validate_star
from eucentric.pipeline.plan import Plan


def _validate_plan(path: Path) -> list[Finding]:
    Plan.load(path.parent)
    return []


def _validate_movie(path: Path) -> list[Finding]:
    read_movie(path)
    return []


_KINDS: dict[tuple[str, ...], Callable[[Path], list[Finding]]] = {
    (".star",): validate_star,
    (".mdoc",): validate_mdoc,
    (".em",): validate_em,
    (".tif", ".tiff"): _validate_movie,
    (".toml",): _validate_plan,
    (".mrc", ".mrcs", ".st", ".ali", ".rec", ".map", ".preali", ".gz", ".bz2"): validate_mrc,
}


def _findings(path: Path) -> list[Finding]:
    check = next((c for endings, c in _KINDS.items() if path.suffix.lower() in endings), None)
    if check is None:
        known = " ".join(ending for endings in _KINDS for ending in endings)
        return [Finding(severity="error", text=f"`{path}` is of a kind that cannot be checked. Known are {known}.")]
    try:
        return list(check(path))
    except EucentricError as error:
        return [Finding(severity="error", text=str(error))]


def validate(
    *files: Path,
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    debug: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Check files of any format that Eucentric reads, and list every fault. Exit code 1 where a file is unusable.

    Parameters
    ----------
    files
        MRC, TIFF, EM, STAR or mdoc files, or an `eucentric.toml`
    as_json
        write the findings as JSON in the last line
    debug
        show where an error came from
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
        sys.stdout.write(json.dumps({"exit_code": int(bool(unusable)), "files": told}, ensure_ascii=False) + "\n")
    return 1 if unusable else 0
