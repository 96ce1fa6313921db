"""How the pages look, in light and dark."""

LIGHT = {
    "page": "#ffffff",
    "text": "#1f2328",
    "muted": "#57606a",
    "line": "#d0d7de",
    "link": "#0550ae",
    "band": "#f3f5f7",
    "wrong": "#fdecea",
    "edge": "#c0392b",
    "warn": "#8a4b00",
}
"""Colours by purpose. `text`, `muted`, `link` and `warn` stand on `page`, `band` or `wrong`."""

DARK = {
    "page": "#14171c",
    "text": "#e6e8eb",
    "muted": "#a9b2bd",
    "line": "#3a424d",
    "link": "#79b8ff",
    "band": "#20262e",
    "wrong": "#3d2020",
    "edge": "#e06c5c",
    "warn": "#f0b37e",
}


def _variables(colors: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colors.items())


STYLE = (
    f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
"""
    + """
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 70rem; padding: 0 1rem;
  background: var(--page); color: var(--text); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; border-bottom: 1px solid var(--line); margin-top: 2.2rem; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.sections { display: flex; flex-wrap: wrap; gap: 0.2rem 1.2rem; list-style: none; padding: 0; }
table { border-collapse: collapse; } .wide { overflow-x: auto; margin: 0.8rem 0; }
th, td { text-align: left; padding: 0.2rem 0.7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { background: var(--band); } tbody th { font-weight: 600; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; margin: 0; text-align: left; cursor: pointer; }
th button::after { content: " \\2195"; color: var(--muted); }
[aria-sort=ascending] button::after { content: " \\2191"; color: var(--text); }
[aria-sort=descending] button::after { content: " \\2193"; color: var(--text); }
td img { display: block; width: 6rem; border-radius: 3px; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; }
figure.plot img { background: #fff; padding: 0.4rem; border-radius: 4px; box-sizing: border-box; }
figcaption, .title, .reading, .hint { color: var(--muted); } .reading { font-style: italic; }
.slider img { width: min(100%, 30rem); border-radius: 4px; } .slider img[hidden] { display: none; }
.controls { display: flex; gap: 0.7rem; align-items: center; max-width: 30rem; margin: 0.3rem 0; }
.controls[hidden] { display: none; } .controls input { flex: 1; min-width: 6rem; }
.controls button { min-width: 4.5rem; padding: 0.2rem 0.5rem; } .controls output { min-width: 5.5rem; }
.failed { background: var(--wrong); } p.failed { border-left: 4px solid var(--edge); padding: 0.6rem 1rem; }
.strip { display: flex; gap: 0.5rem; overflow-x: auto; margin: 0.4rem 0; padding-bottom: 0.5rem; }
.strip .tile { flex: none; width: 11rem; margin: 0; font-size: 0.8rem; line-height: 1.35; border-top: 4px solid transparent; }
.strip img { display: block; width: 100%; } .strip b, .strip span { display: block; }
.strip .marked { border-top-color: #d55e00; } .strip .mark, .caveats li, .outliers li li { color: var(--warn); }
pre { overflow: auto; max-height: 24rem; background: var(--band); padding: 0.8rem; font-size: 0.85rem; }
@media print { .controls, .files, .sections { display: none; } }
"""
)
