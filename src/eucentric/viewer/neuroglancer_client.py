"""Neuroglancer's browser program, from the installed package, at an address where it finds what it expects.

The program is the one that the package serves to Python sessions: it wants its own page at `/v/NAME/` and a stream of events at
`/events/NAME`, through which it could be led. Ours is led by the page around it, so the stream says nothing.
"""

import asyncio
from importlib.util import find_spec
from typing import Final

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from eucentric.errors import InputError
from eucentric.viewer.handlers import BaseHandler
from eucentric.viewer.security import CLIENT_POLICY
from eucentric.viewer.static_files import StaticHandler, static_files

NAME: Final = "view"
_HEARTBEAT_SECONDS = 20.0


def has_neuroglancer() -> bool:
    """Whether the extra `viz` is installed."""
    return find_spec("neuroglancer") is not None


def require_neuroglancer() -> None:
    """InputError, naming the extra, where neuroglancer is not installed."""
    if not has_neuroglancer():
        raise InputError(
            'Tomograms are shown by neuroglancer, which is not installed. Run: pip install "eucentric[viz]"'
        )


def _client_files() -> dict[str, bytes]:
    require_neuroglancer()
    return static_files("neuroglancer", "static/client")


class ClientHandler(StaticHandler):
    """`/v/view/` and the files beside it."""

    policy = CLIENT_POLICY

    def content(self, name: str) -> bytes:
        found = _client_files().get(name)
        if found is None:
            raise HTTPError(404)
        return found

    def get(self, name: str) -> None:
        super().get(name or "index.html")


class EventsHandler(BaseHandler):
    """`/events/view`: open as long as the page is, with nothing to tell."""

    def prepare(self) -> None:
        super().prepare()
        self._left = asyncio.Event()

    def on_connection_close(self) -> None:
        super().on_connection_close()
        self._left.set()

    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        while not self._left.is_set():
            self.write(": still here\n\n")
            try:
                await self.flush()
                await asyncio.wait_for(self._left.wait(), _HEARTBEAT_SECONDS)
            except TimeoutError:
                continue
            except StreamClosedError:
                return
