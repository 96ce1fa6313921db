"""Pages of the report in a real browser, from files, under their own content security policy."""

import importlib.util
from pathlib import Path

import pytest
from browsing import keep_picture, new_page, serious_faults

from eucentric.report.pages import render_project, render_series


@pytest.fixture(scope="module")
def pages():
    """The pages that the tests of the report make, whose names are code."""
    place = Path(__file__).parents[1] / "unit" / "test_report_pages.py"
    spec = importlib.util.spec_from_file_location("pages_of_the_report", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"project": render_project(module.project_page()), "series": render_series(module.series_page())}


@pytest.fixture
def opened(pages, page, tmp_path):
    """Opens a page from a file."""

    def go(name):
        path = tmp_path / "index.html"
        path.write_text(pages[name], encoding="utf-8")
        page.goto(path.as_uri())
        return page

    return go


def test_report_sorts_by_keyboard_and_is_accessible(opened):
    page = opened("project")
    heads = page.locator("main table.sortable").first.locator("thead th")
    (column,) = [i for i, text in enumerate(heads.all_inner_texts()) if "thickness" in text]
    heads.nth(column).get_by_role("button").focus()
    page.keyboard.press("Enter")
    cells = page.locator("main table.sortable").first.locator(f"tbody td:nth-child({column + 1})")
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    assert cells.all_inner_texts() == ["3", "12.5", "1e2", "not known"]
    page.keyboard.press("Enter")
    assert cells.all_inner_texts() == ["1e2", "12.5", "3", "not known"]
    assert not serious_faults(page)
    keep_picture(page, "report-project")


def test_report_slides_by_keyboard_and_is_accessible(opened):
    page = opened("series")
    slider = page.locator(".slider input")
    slider.focus()
    page.keyboard.press("End")
    shown = page.locator(".slider img:not([hidden])")
    assert shown.evaluate_all("all => all.map(i => i.dataset.label)") == ["z +8 Å"]
    assert slider.get_attribute("aria-valuetext") == "z +8 Å"
    page.get_by_role("button", name="Play").click()
    page.get_by_role("button", name="Stop").click()
    assert not serious_faults(page)
    keep_picture(page, "report-series")


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "size"), [("dark", (1280, 800)), ("light", (390, 800))])
def test_report_is_read_in_the_dark_and_on_a_phone(pages, browser, tmp_path, scheme, size):
    for name, text in pages.items():
        path = tmp_path / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        with new_page(browser, size=size, scheme=scheme) as (page, seen):
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
            assert not serious_faults(page)
            keep_picture(page, f"report-{name}-{scheme}")
            seen.check()
