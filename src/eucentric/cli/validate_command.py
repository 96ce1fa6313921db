"""`eucentric validate`."""

import sys
from pathlib import Path

from eucentric.cli.options import AsJson, Debug, show_json
from eucentric.io.findings import Finding

_ORDER = {"error": 0, "warning": 1, "note": 2}


def _findings(files: tuple[Path, ...]) -> dict[str, list[Finding]]:
    # here, so that --help does not load pandas
    from eucentric.io.validate import validate_all
    from eucentric.pipeline.plan import Plan

    def validate_plan(path: Path) -> list[Finding]:
        Plan.load(path.parent)
        return []

    return validate_all(list(files), {".toml": validate_plan})


def validate(
    *files: Path,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Check files of any format that Eucentric reads, and list every fault. Exit code 1 where a file is unusable.

    `error` is a file that cannot be used, `warning` one that is odd and is used, `note` something to know.

    Parameters
    ----------
    files
        Images, volumes, tables, alignments or models of any known format, an `eucentric.toml`, or folders of them
    """
    del debug  # read by the program itself
    every = _findings(files)
    for path, findings in every.items():
        for finding in sorted(findings, key=lambda f: _ORDER[f.severity]):
            sys.stdout.write(f"{finding.severity}: {finding.text}\n")
        if not findings:
            sys.stdout.write(f"{path}: nothing to object to\n")
    unusable = [p for p, findings in every.items() if any(f.severity == "error" for f in findings)]
    if len(every) > 1:
        odd = sum(bool(findings) for findings in every.values()) - len(unusable)
        sys.stdout.write(f"{len(every)} checked: {len(unusable)} unusable, {odd} with warnings or notes\n")
    if as_json:
        told = {p: [{"severity": f.severity, "text": f.text} for f in findings] for p, findings in every.items()}
        show_json({"exit_code": int(bool(unusable)), "files": told})
    return 1 if unusable else 0
