"""The server: bound, told of, run until it is stopped."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from eucentric.errors import InputError
from eucentric.pipeline.steps import find_project
from eucentric.viewer.handlers import NotFoundHandler
from eucentric.viewer.routes import ROUTES
from eucentric.viewer.security import MOST_BODY_BYTES, Guard, check_host
from eucentric.viewer.site import Site

LOOPBACK = "127.0.0.1"
_MOST_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """A server that is bound to its port, and answers once `run` is called."""

    site: Site
    host: str
    port: int
    sockets: tuple[socket.socket, ...]

    @property
    def address(self) -> str:
        """Without the token."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/"

    @property
    def entrance(self) -> str:
        """The address to open; it holds the token."""
        return f"{self.address}?token={self.site.guard.token}"

    async def run(self, stop: asyncio.Event, started: Callable[[], None] = lambda: None) -> None:
        """Answer until `stop` is set."""
        application = Application(
            list(ROUTES), default_handler_class=NotFoundHandler, site=self.site, log_function=_no_log
        )
        server = HTTPServer(
            application, max_body_size=MOST_BODY_BYTES, max_buffer_size=2 * MOST_BODY_BYTES, max_header_size=2**16
        )
        server.add_sockets(self.sockets)
        try:
            started()
            await stop.wait()
        finally:
            server.stop()
            await server.close_all_connections()
            self.site.close()


def _no_log(handler: RequestHandler) -> None:
    """Requests are not listed: addresses may hold the token."""


def make_viewer(
    project: Path, host: str = LOOPBACK, port: int = 0, *, allow_remote: bool = False, token: str | None = None
) -> Viewer:
    """Bind a server for a project.

    Parameters
    ----------
    project : folder made by `eucentric import`
    host : address to listen at
    port : 0 takes a free one
    allow_remote : whether other machines may reach it
    token : made anew where None

    Raises
    ------
    InputError : not a project, an address that other machines reach, or a port that is taken
    """
    root = find_project(project).resolve()
    hosts = check_host(host, allow_remote)
    guard = Guard(hosts=hosts) if token is None else Guard(hosts=hosts, token=token)
    if not 0 <= port <= _MOST_PORT:
        raise InputError(f"--port {port} is no port: expected 0 (a free one) to {_MOST_PORT}.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InputError(
            f"Port {port} at {host} cannot be used: {error.strerror or error}. Leave --port out to take a free one."
        ) from error
    bound.setblocking(False)
    number: int = bound.getsockname()[1]
    return Viewer(site=Site(root=root, guard=guard, port=number), host=host, port=number, sockets=(bound,))
