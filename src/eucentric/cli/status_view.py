"""How the state of a project is shown: tables for people at a terminal, a line for logs."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from eucentric.pipeline.progress import duration
from eucentric.pipeline.status import ItemNow, ProjectStatus, State
from eucentric.pipeline.time_left import TimeLeft

_STYLES: dict[State, str] = {
    "done": "green",
    "running": "cyan",
    "outdated": "yellow",
    "failed": "red",
    "waiting": "dim",
    "left out": "dim",
}


def series_table(found: ProjectStatus, most: int | None = None) -> Table:
    """A row a series.

    Parameters
    ----------
    most : rows; where there are more series, those that are not done come first, and the rest is counted
    """
    stages = list(found.series[0].states) if found.series else []
    table = Table("series", *stages, box=None)
    shown = list(found.series)
    if most is not None and len(shown) > most:
        shown = sorted(shown, key=lambda one: _urgency(list(one.states.values())))[: max(0, most - 1)]
    for one in shown:
        table.add_row(one.name, *(Text(s, _STYLES[s]) for s in one.states.values()))
    if len(shown) < len(found.series):
        table.add_row(Text(f"and {len(found.series) - len(shown)} more", "dim"))
    return table


def _urgency(states: list[State]) -> int:
    if "running" in states:
        return 0
    if "failed" in states:
        return 1
    return 3 if set(states) <= {"done", "left out"} else 2


def stage_table(found: ProjectStatus) -> Table:
    """A row a stage with the number of series in each state."""
    table = Table("stage", *_STYLES, box=None)
    for stage in found.series[0].states if found.series else ():
        counts = found.counts(stage)
        cells = (Text(str(counts[s]), _STYLES[s]) if counts.get(s) else Text("-", "dim") for s in _STYLES)
        table.add_row(stage, *cells)
    return table


def now_lines(found: ProjectStatus) -> list[str]:
    """What runs, or that nothing does, and how much time is left."""
    holder = found.holder
    told = []
    if holder is None:
        told.append(_idle_words(found))
    elif holder.state == "running":
        told.append(
            f"Running: `eucentric {holder.command}`, process {holder.pid} on {holder.host}, since {holder.since}."
        )
        told += [f"  {_item_words(item)}" for item in found.now]
        told += [_left_words(found.left)] if found.left is not None else []
    elif holder.state == "gone":
        what = " and ".join(f"{item.series} in {item.stage}" for item in found.now)
        told.append(
            f"CRASHED: `eucentric {holder.command}`, process {holder.pid}, since {holder.since}, ended without a word"
            f"{f' at {what}' if what else ''}. What was finished is kept: run it again to go on."
        )
    else:
        told.append(
            f"`eucentric {holder.command}` was begun on {holder.host}, process {holder.pid}, at {holder.since}, and did not say "
            "that it ended. Whether it runs can be seen on that machine only."
        )
    told += [
        f"Running: `eucentric {one.name}`, process {one.pid}, for {duration(one.seconds)}; how far it is, it shows itself."
        for one in found.commands
    ]
    return told


def _idle_words(found: ProjectStatus) -> str:
    left = found.left
    if left is None or (not left.seconds and not left.unmeasured):
        return "Nothing is running, and every stage is done."
    words = f"about {duration(left.seconds)} of work" if left.seconds else "work that was never timed here"
    more = f", and {_and(left.unmeasured)}, never timed here" if left.seconds and left.unmeasured else ""
    return f"Nothing is running. `eucentric run {found.root}` would find {words}{more}, one series at a time."


def _item_words(item: ItemNow) -> str:
    parts = [f"{item.series}, {item.stage}: {duration(item.seconds)} so far"]
    if item.fraction:
        parts.append(f"{100 * item.fraction:.0f}%{f' ({item.text})' if item.text else ''}")
    if item.seconds_left is not None:
        parts.append(
            f"about {duration(item.seconds_left)} left" if item.seconds_left else "longer than such items usually take"
        )
    return ", ".join(parts)


def _left_words(left: TimeLeft) -> str:
    if not left.unmeasured:
        return f"About {duration(left.seconds)} left."
    known = f"About {duration(left.seconds)} left" if left.seconds else "How long it takes is not known yet"
    return f"{known}; {_and(left.unmeasured)} {'was' if len(left.unmeasured) == 1 else 'were'} never timed here."


def _and(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def closing_lines(found: ProjectStatus) -> list[str]:
    """Results of particles and of all series, changed settings, and what to know about each series."""
    told = [
        f"{one.folder}: {'done' if one.is_done else 'FAILED'}, {one.ended}{f': {one.message}' if one.message else ''}"
        for one in found.results
    ]
    told += [f"Changed since the last run: {change}" for change in found.changes]
    told += [f"{one.name}, {text}" for one in found.series for text in one.messages]
    return told


def live_view(found: ProjectStatus, height: int) -> RenderableType:
    """All that fits on a screen, the present first.

    Parameters
    ----------
    height : lines of the screen
    """
    now = now_lines(found)
    stages = stage_table(found)
    rest = height - 2 * len(now) - stages.row_count - 6
    parts: list[RenderableType] = [Text(str(found.root), "bold"), *map(Text, now), Text(), stages]
    if rest > 1 and found.series:
        parts += [Text(), series_table(found, rest - 1)]
    return Group(*parts)


def one_line(found: ProjectStatus) -> str:
    """The state in a line, for logs."""
    parts = []
    for stage in found.series[0].states if found.series else ():
        counts = found.counts(stage)
        words = [f"{counts[s]} {s}" for s in _STYLES if counts.get(s) and s not in ("done", "waiting")]
        extra = f" ({', '.join(words)})" if words else ""
        parts.append(f"{stage} {counts.get('done', 0)}/{len(found.series)}{extra}")
    now = "; ".join(line.strip().rstrip(".") for line in now_lines(found))
    return f"{', '.join(parts)}. {now}."
