"""What every request goes through, and how pages and data are answered."""

import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tornado.ioloop import IOLoop
from tornado.web import HTTPError, RequestHandler

from eucentric.errors import EucentricError, InputError
from eucentric.viewer.security import MOST_BODY_BYTES, POLICY, Guard

if TYPE_CHECKING:
    from eucentric.viewer.site import Site

_P = ParamSpec("_P")
_T = TypeVar("_T")
_LOG = logging.getLogger(__name__)


class BaseHandler(RequestHandler):
    """Refuses whom it must before any method runs. Every handler of the viewer derives from it.

    Neither `prepare` nor `check_origin` may be overridden without calling them.
    """

    policy = POLICY

    @property
    def site(self) -> "Site":
        site: Site = self.application.settings["site"]
        return site

    @property
    def guard(self) -> Guard:
        return self.site.guard

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", self.policy)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("X-Frame-Options", "SAMEORIGIN")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")
        self.set_header("Cross-Origin-Opener-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")
        self.clear_header("Server")

    def prepare(self) -> None:
        request, headers = self.request, self.request.headers
        host = headers.get("Host")
        if not self.guard.is_this_host(host):
            raise HTTPError(403, reason="Unknown host name")
        if not self.guard.same_origin(
            request.method or "", host or "", headers.get("Origin"), headers.get("Sec-Fetch-Site")
        ):
            raise HTTPError(403, reason="From another site")
        if not self.guard.has_token(self.get_cookie(self.site.cookie)):
            raise HTTPError(403, reason="Token missing")

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        """A wrong request that our own code told of is no fault of the server."""
        error = kwargs.get("exc_info")
        if status_code == 500 and error and isinstance(error[1], EucentricError):
            status_code = 400
        super().send_error(status_code, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """A page of one sentence; what a request said is never repeated in it as HTML."""
        words = _error_words(status_code, kwargs.get("exc_info"))
        if self.wants_json:
            self.set_header("Content-Type", "application/json; charset=utf-8")
            self.finish(json.dumps({"error": words}))
            return
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(self.site.render("error.html", title="Not shown", words=words, status=status_code))

    @property
    def wants_json(self) -> bool:
        return self.request.path.startswith(("/api/", "/volumes/", "/annotations/", "/meshes/"))

    async def in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run what reads files or counts, so that other requests go on."""
        return await IOLoop.current().run_in_executor(self.site.executor, lambda: work(*args, **kwargs))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HTTPError | EucentricError):
            _LOG.error("The viewer could not answer %s.", self.request.path, exc_info=(typ, value, tb))


def _error_words(status: int, error: Any) -> str:
    value = error[1] if error else None
    if isinstance(value, EucentricError):
        return str(value)
    if status == 403:
        why = getattr(value, "reason", None)
        if why == "Token missing":
            return "This address needs its token: open the address that `eucentric view` printed."
        return f"Refused: {why or 'not allowed'}."
    if status == 404:
        return "There is no such page."
    if status < 500 and isinstance(value, HTTPError) and value.reason:
        return str(value.reason)
    return "The viewer could not answer this. Its terminal says why."


class PageHandler(BaseHandler):
    """Answers with a page made from a template."""

    def page(self, template: str, **values: Any) -> None:
        """Send a template filled with values, which it escapes; `root` and `version` are known to it."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(self.site.render(template, **values))


class ApiHandler(BaseHandler):
    """Answers with JSON, and takes it. An `EucentricError` becomes an answer 400 with its words."""

    def send(self, values: Any) -> None:
        """Send a result as JSON."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(values, ensure_ascii=False, allow_nan=False))

    def body_json(self, most_bytes: int = MOST_BODY_BYTES) -> dict[str, Any]:
        """The JSON object that was sent.

        Raises
        ------
        InputError : no JSON object, another content type, or too long
        """
        if self.request.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise InputError("Expected JSON (Content-Type: application/json).")
        if len(self.request.body) > most_bytes:
            raise InputError(f"The request holds {len(self.request.body):,} bytes; at most {most_bytes:,} are taken.")
        try:
            values = json.loads(self.request.body)
        except (ValueError, RecursionError) as error:
            raise InputError("The request is not JSON.") from error
        if not isinstance(values, dict):
            raise InputError("Expected a JSON object.")
        return values


class EnterHandler(PageHandler):
    """`/?token=...`: puts the token into a cookie and goes on to `/` without it. Pages at `/` derive from it."""

    def prepare(self) -> None:
        if self.get_query_argument("token", None) is None:
            super().prepare()
            return
        if not self.guard.is_this_host(self.request.headers.get("Host")):
            raise HTTPError(403, reason="Unknown host name")

    def entered(self) -> bool:
        """Whether a token was given; then all is answered."""
        given = self.get_query_argument("token", None)
        if given is None:
            return False
        if not self.guard.has_token(given):
            raise HTTPError(403, reason="Token missing")
        self.set_cookie(self.site.cookie, given, httponly=True, samesite="Strict", path="/")
        # a page that sends itself on: to a redirect on the way from another site, a strict cookie would not be sent
        self.page("enter.html")
        return True


class NotFoundHandler(BaseHandler):
    """Any other address."""

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)
