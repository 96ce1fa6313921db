"""Pages of the report: what names in the data may not do, who can read them, and the files beside them."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection
from PIL import Image

from eucentric.figures.canvas import new_figure
from eucentric.figures.distributions import distribution
from eucentric.figures.movie import stack_frames
from eucentric.report.content import (
    MetricTable,
    ProjectPage,
    Section,
    SeriesPage,
    SeriesRow,
    Strip,
    Tile,
    picture,
    slider,
)
from eucentric.report.exports import figures_of, figures_zip, metrics_csv, metrics_json
from eucentric.report.outliers import find_outliers
from eucentric.report.page_style import DARK, LIGHT
from eucentric.report.pages import render_project, render_series
from eucentric.report.references import REFERENCES, bibtex

ATTACK = "<script>document.title='run'</script>\"'><img src=x onerror=alert(1)>"
SERIES = {"TS_2": "3", "TS_10": "12.5", ATTACK: "not known", "TS_1": "1e2"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def curve():
    figure, axes = new_figure(3.0, 2.0)
    axes.plot([1.0, 2.0, 3.0], [4.0, np.nan, 6.0], label="found")
    axes.bar([1.0, 2.0], [3.0, 5.0])
    axes.set(xlabel="tilt", ylabel="shift")
    return picture(f"Shifts {ATTACK}", figure, 40, ATTACK)


def project_page():
    rows = [
        SeriesRow(
            name=name,
            page="TS.html",
            stage="ctf",
            failed=name == ATTACK,
            message=name,
            tilt_count=3,
            excluded_count=0,
            seconds=1.0,
            quality=(value,),
            outliers=(f"far {name}",),
        )
        for name, value in SERIES.items()
    ]
    table = MetricTable(stage=ATTACK, columns=(ATTACK,), rows=((ATTACK, (ATTACK,)),))
    return ProjectPage(
        title=ATTACK,
        rows=tuple(rows),
        quality_columns=("thickness (Å)",),
        outlier_note="far",
        pictures=(curve(),),
        tables=(table,),
        files=(("metrics.csv", "CSV"),),
        methods=(ATTACK,),
        references=(ATTACK,),
        bibtex=ATTACK,
        versions=((ATTACK, ATTACK),),
    )


def series_page():
    frames = stack_frames(np.random.default_rng(1).normal(size=(3, 64, 64)), size_px=64)
    section = Section(
        title=ATTACK,
        reading=ATTACK,
        pictures=(curve(),),
        columns=(ATTACK,),
        rows=((ATTACK,),),
        strips=(Strip(title=ATTACK, tiles=(Tile(picture=curve(), lines=(ATTACK, ATTACK), mark=ATTACK),)),),
        sliders=(slider(f"Layers {ATTACK}", frames, ["z -8 Å", "z +0 Å", "z +8 Å"]),),
        metrics=((ATTACK, ATTACK),),
        caveats=(ATTACK,),
    )
    return SeriesPage(
        name=ATTACK,
        facts=((ATTACK, ATTACK),),
        failed_stage="ctf",
        message=ATTACK,
        outliers=(ATTACK,),
        sections=(section,),
    )


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.parametrize(
    "page", [render_project(project_page()), render_series(series_page())], ids=["project", "series"]
)
def test_names_in_the_data_add_no_elements_and_load_nothing(page):
    elements = Elements(page)
    assert len(elements.of("script")) == 1
    assert elements.of("img")
    assert all(image["src"].startswith("data:image/webp;base64,") for image in elements.of("img"))
    assert all(image["alt"] for image in elements.of("img"))
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert "&lt;script&gt;" in page
    policy = next(m["content"] for m in elements.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "script-src 'sha256-" in policy
    # all that scrolls can be reached by keyboard and has a name
    regions = [a for _, a in elements.found if "wide" in a.get("class", "") or a.get("class") == "strip"]
    assert regions
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    assert all(a["aria-label"] for a in elements.of("input"))
    assert all("scope" in a for a in elements.of("th"))


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_as_wcag_asks(colors):
    for text in ("text", "muted", "link", "warn"):
        for ground in ("page", "band", "wrong"):
            low, high = sorted((luminance(colors[text]), luminance(colors[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_one_far_series_is_told_and_few_series_are_not_judged():
    values = dict(zip("abcdef", (1.0, 1.1, 0.9, 1.05, 0.95, 3.0), strict=True))
    found = find_outliers({name: {"motion": v, "same": 7.0, "none": None} for name, v in values.items()})
    assert list(found) == ["f"]
    (outlier,) = found["f"]
    # median 1.025; deviations .025 .075 .125 .025 .075 1.975: median 0.075
    assert outlier.z == pytest.approx(0.6745 * 1.975 / 0.075)
    assert find_outliers({name: {"motion": v} for name, v in list(values.items())[2:]}) == {}
    # more than half are equal: the mean deviation tells how far the other is
    shared = find_outliers({str(n): {"left out": 12.0 if n == 9 else 0.0} for n in range(10)})
    assert shared["9"][0].z == pytest.approx(0.7979 * 12.0 / 1.2)
    rounding = {str(n): {"x": 5.0 + 1e-9 * n**2} for n in range(9)}
    assert find_outliers(rounding) == {}


def test_numbers_behind_figures_are_those_that_were_drawn():
    page = series_page()
    archive = figures_zip("name", figures_of(page))
    assert archive == figures_zip("name", figures_of(page))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        names = opened.namelist()
        told = json.loads(opened.read("figures.json"))
        (table,) = [n for n in names if n.endswith(".csv")]
        rows = list(csv.DictReader(io.StringIO(opened.read(table).decode())))
    assert re.fullmatch(r"[a-z0-9_]+\.csv", table)
    line, bars = told["figures"][0]["axes"][0]["curves"]
    assert (line["x"], line["y"], line["name"]) == ([1.0, 2.0, 3.0], [4.0, None, 6.0], "found")
    assert (bars["kind"], bars["x"], bars["y"]) == ("bars", [1.0, 2.0], [3.0, 5.0])
    assert [(r["curve"], r["x"], r["y"]) for r in rows][:3] == [
        ("found", "1", "4"),
        ("found", "2", ""),
        ("found", "3", "6"),
    ]


def test_metrics_are_plain_and_no_spreadsheet_takes_names_for_formulas():
    metrics = {"=cmd()": {"ctf": {"defocus": -1.5, "hand": None}}}
    assert json.loads(metrics_json(metrics)) == metrics
    rows = list(csv.reader(io.StringIO(metrics_csv(metrics))))
    assert rows == [
        ["series", "stage", "metric", "value"],
        ["'=cmd()", "ctf", "defocus", "-1.5"],
        ["'=cmd()", "ctf", "hand", ""],
    ]


def test_bibtex_has_an_entry_for_each_reference():
    texts = [reference.text for reference in REFERENCES.values()]
    entries = bibtex(texts, "1.2")
    keys = re.findall(r"^@\w+\{(\w+),$", entries, re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(texts) + 1
    assert entries.count("{") == entries.count("}")
    assert "author = {Zheng and others}" in entries
    assert "author = {Fernandez and Li and Bharat and Agard}" in entries
    assert "doi = {10.1016/j.jsb.2015.08.008}" in entries
    assert entries.isascii()


def test_pictures_keep_to_their_bytes_and_plots_to_their_lines():
    figure, axes = new_figure()
    axes.imshow(np.random.default_rng(0).normal(size=(300, 300)), cmap="gray")
    large = picture("Noise", figure, 100, most_bytes=10**6)
    small = picture("Noise", figure, 100, most_bytes=len(large.data) // 3)
    assert len(small.data) <= len(large.data) // 3
    sizes = [Image.open(io.BytesIO(p.data)).size for p in (large, small)]
    assert sizes[0] == (700, 320)
    assert sizes[1][0] >= 490
    figure, axes = new_figure()
    axes.plot([0, 1], [0, 1], color="#0072b2")
    axes.add_collection(
        EllipseCollection([1.0], [1.0], [0.0], units="xy", offsets=[(0.25, 0.75)], offset_transform=axes.transData)
    )
    plot = picture("Line", figure, 100)
    drawn = np.asarray(Image.open(io.BytesIO(plot.data)).convert("RGB"), dtype=int).reshape(-1, 3)
    assert (np.abs(drawn - [0, 114, 178]).max(axis=1) < 12).any()  # few colours, the same ones
    assert [(c["x"], c["y"]) for c in plot.plotted[0]["curves"] if c["kind"] == "points"] == [([0.25], [0.75])]


def test_stack_frames_share_a_window_and_keep_to_their_size():
    stack = np.random.default_rng(2).normal(size=(6, 200, 160)).astype(np.float32)
    frames = stack_frames(stack, size_px=128, most_bytes=12_000, shared=True)
    assert len(frames) == 6
    assert sum(map(len, frames)) <= 12_000


@pytest.mark.parametrize("values", [[3.0, 3.0, 3.0], [1.0, 2.0, 9.0, 4.0]])
def test_distribution_counts_every_series(values):
    axes = distribution(np.array(values), "thickness (Å)").axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == len(values)


PROBE = """<script>
addEventListener("load", () => {
  const first = (table, cell) => [...table.tBodies[0].rows].map((row) => row.cells[cell].textContent.trim());
  const table = document.querySelector("table.sortable");
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex((head) => head.textContent.includes("thickness"));
  const out = { title: document.title, sorted: [] };
  for (const place of column < 0 ? [] : [column, column, 0]) {
    heads[place].querySelector("button").click();
    out.sorted.push([heads[place].getAttribute("aria-sort"), first(table, place).map((text) => text.slice(0, 9))]);
  }
  const input = document.querySelector(".slider input");
  if (input) {
    input.value = 2;
    input.dispatchEvent(new Event("input"));
    out.shown = [...document.querySelectorAll(".slider img")].filter((image) => !image.hidden).map((image) => image.dataset.label);
    out.said = input.getAttribute("aria-valuetext");
    out.controls = document.querySelector(".slider .controls").hidden;
  }
  out.dark = getComputedStyle(document.body).backgroundColor;
  document.body.innerHTML = "";
  document.body.textContent = "RESULT" + JSON.stringify(out) + "END";
});
</script>"""


def probe(tmp_path, page, scheme):
    """What a browser makes of a page; the probe runs beside the page's own script."""
    if CHROMIUM is None:
        pytest.skip("NOT TESTED IN A BROWSER: no chromium found")
    path = tmp_path / "page.html"
    # the policy lets no other script run, the probe included
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", f"{PROBE}</body>")
    path.write_text(opened, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    options += [f"--blink-settings=preferredColorScheme={scheme}", "--virtual-time-budget=2000", "--dump-dom"]
    done = subprocess.run(
        [CHROMIUM, *options, path.as_uri()], capture_output=True, timeout=300, env={**os.environ, "HOME": str(tmp_path)}
    )
    found = re.search(r"RESULT(.*?)END", done.stdout.decode("utf-8", "replace"), re.DOTALL)
    assert found is not None, done.stderr.decode("utf-8", "replace")[-2000:]
    return json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


@pytest.mark.slow
def test_tables_sort_in_a_browser_and_attacks_do_not_run(tmp_path):
    found = probe(tmp_path, render_project(project_page()), 0)
    assert found["title"] == ATTACK
    assert found["sorted"] == [
        ["ascending", ["3", "12.5", "1e2", "not known"]],
        ["descending", ["1e2", "12.5", "3", "not known"]],
        ["ascending", ["<script>d", "TS_1", "TS_2", "TS_10"]],
    ]
    assert found["dark"] == "rgb(20, 23, 28)"


@pytest.mark.slow
def test_layers_slide_in_a_browser(tmp_path):
    found = probe(tmp_path, render_series(series_page()), 1)
    assert found["shown"] == ["z +8 Å"]
    assert found["said"] == "z +8 Å"
    assert found["controls"] is False
    assert found["dark"] == "rgb(255, 255, 255)"
