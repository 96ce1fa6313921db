"""A real browser for tests: Debian's Chromium without a screen, with WebGL in software; and what goes wrong in it."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_core_python.sync_playwright import Axe

CHROMIUM = Path(os.environ.get("EUCENTRIC_CHROMIUM", "/usr/bin/chromium"))
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
)
PICTURES = Path(os.environ.get("EUCENTRIC_TEST_PICTURES") or Path(__file__).resolve().parents[2] / "test-pictures")
"""Where screenshots are kept."""
_NOT_AN_ERROR = ("GPU stall due to ReadPixels",)  # how software WebGL tells that a picture was read back


@dataclass
class Seen:
    """What a page did that it should not."""

    messages: list[str] = field(default_factory=list)
    """Errors and warnings of the console, and exceptions."""
    elsewhere: list[str] = field(default_factory=list)
    """Addresses of other hosts that were asked for."""
    failed: list[str] = field(default_factory=list)
    """Requests of our own that were refused or found nothing."""

    def check(self) -> None:
        """AssertionError where there is anything."""
        assert not self.messages, self.messages
        assert not self.elsewhere, self.elsewhere
        assert not self.failed, self.failed

    def forget(self) -> None:
        """After what was meant to go wrong."""
        for one in (self.messages, self.elsewhere, self.failed):
            one.clear()


@contextmanager
def chromium() -> Iterator[object]:
    """The browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def new_page(browser, size=(1280, 800), scheme="light"):
    """A page of a profile of its own, and what it does wrong."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    try:
        page, seen = context.new_page(), Seen()
        page.on("console", lambda m: _note_message(seen, m))
        page.on("pageerror", lambda error: seen.messages.append(str(error)))
        page.on("request", lambda request: _note_request(seen, request.url))
        page.on("response", lambda r: seen.failed.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        yield page, seen
    finally:
        context.close()


def _note_message(seen: Seen, message) -> None:
    if message.type in ("error", "warning") and not any(words in message.text for words in _NOT_AN_ERROR):
        seen.messages.append(f"{message.type}: {message.text}")


def _note_request(seen: Seen, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("data", "blob", "file", "about") and parts.hostname not in ("127.0.0.1", "localhost"):
        seen.elsewhere.append(address)


def keep_picture(page, name: str) -> Path:
    """A screenshot, kept for people to look at."""
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path)
    return path


def serious_faults(page) -> list[str]:
    """What axe-core calls serious or critical, each with its elements."""
    found = Axe().run(page)["violations"]
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: {json.dumps([n['html'][:200] for n in v['nodes']])}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
