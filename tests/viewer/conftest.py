"""The viewer of a small project, and a browser to look at it."""

import asyncio
import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

_HERE = str(Path(__file__).parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

from browsing import CHROMIUM, chromium, new_page  # noqa: E402
from small_project import make_project  # noqa: E402


@contextmanager
def serving(project, **options):
    """A viewer that answers in a thread of its own."""
    from eucentric.viewer.serve import make_viewer

    viewer = make_viewer(project, **options)
    ready, held = threading.Event(), {}

    async def serve():
        held["loop"], held["stop"] = asyncio.get_running_loop(), asyncio.Event()
        await viewer.run(held["stop"], started=ready.set)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield viewer
    finally:
        held["loop"].call_soon_threadsafe(held["stop"].set)
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def serve():
    """Serves a project: `with serve(folder) as viewer`."""
    return serving


@pytest.fixture
def project(tmp_path):
    """A small project that a test may write to."""
    return make_project(tmp_path / "project")


@pytest.fixture
def viewer(project):
    """A viewer of the small project: `viewer.entrance` is the address with the token, `viewer.site.root` the project."""
    with serving(project) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    """Chromium; skipped, counted and with a reason, where there is none."""
    if not CHROMIUM.is_file():
        pytest.skip(f"no browser at {CHROMIUM}: install Debian's chromium, or set EUCENTRIC_CHROMIUM")
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser):
    """A page. That nothing went wrong in it is checked at the end; `page.seen` has it before."""
    with new_page(browser) as (made, seen):
        made.seen = seen
        yield made
        seen.check()


@pytest.fixture
def open_page(page, viewer):
    """The page, let in by its token and brought to a path: `open_page("/")`."""

    def go(path="/"):
        page.goto(viewer.entrance)
        page.wait_for_url(viewer.address)
        if path != "/":
            page.goto(viewer.address.rstrip("/") + path)
        return page

    return go


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Tests do not outlive a power cut: what the system holds in memory is enough for them."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
