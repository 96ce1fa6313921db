"""Who may ask for what: the token, the names of this host, where a request came from, and which files are given.

Threats: pages of other sites in the same browser (they can send requests, and by DNS rebinding seem to be this host),
other users of the machine (they can reach the port, and lack the token), and what data files hold.
"""

import hmac
import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from eucentric.errors import InputError

MOST_BODY_BYTES = 8 * 2**20
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
"""Of our own pages: nothing inline, nothing from elsewhere."""
CLIENT_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""Of neuroglancer in its frame: it compiles decoders (WebAssembly) and readers of annotations (made from names of properties,
which are ours and never of data), works in workers and styles its elements by attribute. Scripts are its own files alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """The rules of one server."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    hosts: frozenset[str] = _LOCAL_NAMES
    """Names in a request's Host header that mean this server."""

    def has_token(self, given: str | None) -> bool:
        """Whether a token is ours, in a time that does not tell how much of it was right."""
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def is_this_host(self, header: str | None) -> bool:
        """Whether a Host header names this server; a name that someone made point here does not."""
        return header is not None and _host_name(header) in self.hosts

    def same_origin(self, method: str, host: str, origin: str | None, site: str | None) -> bool:
        """Whether a request comes from our own pages, or from nobody's where it only reads.

        Parameters
        ----------
        method : GET and HEAD may come without an Origin, others not
        host : the Host header
        origin : the Origin header
        site : the Sec-Fetch-Site header, which all present browsers send
        """
        if site is not None and site not in ("same-origin", "none"):
            return False
        if origin is None:
            return method in _SAFE_METHODS
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()


def _host_name(header: str) -> str | None:
    try:
        name = urlsplit(f"//{header}").hostname
    except ValueError:
        return None
    return None if name is None or "@" in header else name


def check_host(host: str, allow_remote: bool) -> frozenset[str]:
    """The names that a server bound to this address answers to.

    Raises
    ------
    InputError : an address that other machines reach, without leave
    """
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if local:
        return _LOCAL_NAMES | {host.lower()}
    if not allow_remote:
        raise InputError(
            f"`--host {host}` would open the project to other machines, without encryption. Use an SSH tunnel "
            "instead, or give --allow-remote as well."
        )
    if host in ("0.0.0.0", "::"):
        raise InputError(
            f"`--host {host}` stands for every address. Give the one name or address that browsers are to use."
        )
    return _LOCAL_NAMES | {host.lower()}


def inside(root: Path, *parts: str) -> Path:
    """A file of the project by the parts of its path; what lies elsewhere is not found.

    Parameters
    ----------
    root : the project's folder, resolved
    parts : each the name of one folder or file

    Raises
    ------
    InputError : a part that is no plain name, no such file, or a link that leads out of the project
    """
    for part in parts:
        if part in ("", ".", "..") or any(c in part for c in "/\\\0") or part.startswith("."):
            raise InputError("There is no such file in the project.")
    return inside_path(root, root.joinpath(*parts))


def inside_path(root: Path, path: Path) -> Path:
    """A path that tables of the project name, where it lies in the project after all links were followed.

    Raises
    ------
    InputError : no such file, or one outside of the project
    """
    try:
        found = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError("There is no such file in the project.") from error
    if not found.is_relative_to(root):
        raise InputError(f"`{path.name}` lies outside of the project, or is a link that leads there. It is not shown.")
    return found
