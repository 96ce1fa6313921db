"""`eucentric acquisition learn`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from eucentric.cli.options import SEVERAL, AsJson, Debug, show_json

if TYPE_CHECKING:
    from eucentric.pipeline.learn_acquisition import GoniometerNews, LearnedProject


def learn(
    *projects: Path,
    goniometer: Path | None = None,
    only: Annotated[list[str] | None, SEVERAL] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Judge how aligned tilt series were taken, and say what to do otherwise.

    Of each series: eucentric height, tilt axis, backlash, tracking, drift and settling, defocus against target, field
    lost, inclination, order of doses. Written to PROJECT/acquisition: series.csv, a JSON file each, advice.txt. Exit code
    1 where a series could not be judged.

    Parameters
    ----------
    projects
        folders of projects whose series are aligned, and best have their CTF
    goniometer
        model of the stage (JSON) to bring on by these series; made where it does not exist. A series counts once
    only
        names of tilt series; wildcards allowed
    """
    del debug  # read by the program itself
    from eucentric.pipeline.learn_acquisition import learn_from_projects  # here, so that --help does not load torch

    found, news = learn_from_projects(projects, goniometer, only or ())
    for project in found:
        _show(project)
    if news is not None:
        sys.stdout.write(news.sentence + "\n")
    if as_json:
        show_json(_values(found, news))
    return int(any(one.judged is None for project in found for one in project.series))


_COLUMNS = (
    ("height um", "eucentric_height_angstrom", 1e-4, "{:+.2f}"),
    ("target um", "axis_distance_angstrom", 1e-4, "{:+.2f}"),
    ("axis um", "axis_offset_angstrom", 1e-4, "{:+.2f}"),
    ("backlash nm", "backlash_across_angstrom", 0.1, "{:+.0f}"),
    ("step nm", "step_angstrom", 0.1, "{:.0f}"),
    ("defocus um", "defocus_error_angstrom", 1e-4, "{:+.2f}"),
    ("late A/s", "late_speed_angstrom_per_s", 1.0, "{:.1f}"),
    ("field %", "field_kept_by_most", 100.0, "{:.0f}"),
    ("level deg", "start_tilt_deg", 1.0, "{:+.1f}"),
    ("predicted x", "prediction_error_across_angstrom", 0.1, "{:.0f}"),
    ("y", "prediction_error_along_angstrom", 0.1, "{:5.0f}"),
    ("z nm", "prediction_error_height_angstrom", 0.1, "{:.0f}"),
)


def _show(project: "LearnedProject") -> None:
    from eucentric.pipeline.judge_acquisition import TRACKING_WORDS, figures_of_series
    from eucentric.pipeline.learn_acquisition import advice_lines

    width = max(len("series"), *(len(one.name) for one in project.series))
    lines = ["  ".join(["series".ljust(width), *(head.rjust(len(head)) for head, *_ in _COLUMNS)])]
    for one in project.series:
        if one.judged is None:
            continue
        figures = figures_of_series(one.judged, one.prediction)
        cells = []
        for head, name, factor, form in _COLUMNS:
            figure = figures[name]
            cells.append((form.format(figure.value * factor) if figure.is_known else "-").rjust(len(head)))
        lines.append("  ".join([one.name.ljust(width), *cells]))
    for kind in dict.fromkeys(one.judged.measured.tracking for one in project.series if one.judged is not None):
        lines.append(f"{TRACKING_WORDS[kind][0].upper()}{TRACKING_WORDS[kind][1:]}.")
    lines += ["", *advice_lines(project.series, project.session), f"Written to `{project.files[0].parent}`."]
    sys.stdout.write("\n".join(lines) + "\n")


def _values(found: "list[LearnedProject]", news: "GoniometerNews | None") -> dict[str, object]:
    from eucentric.pipeline.judge_acquisition import as_record

    values: dict[str, object] = {
        "projects": [
            {
                "project": str(project.root),
                "session_advice": list(project.session),
                "series": [as_record(one) for one in project.series],
                "files": [str(path) for path in project.files],
            }
            for project in found
        ]
    }
    if news is not None:
        values["goniometer"] = {
            "path": str(news.path),
            "added": list(news.added),
            "known": list(news.known),
            "passed_over": dict(news.passed_over),
            "series_count": 0 if news.model is None else news.model.series_count,
        }
    return values
