"""Every address of the viewer. One line a page: its pattern, and the handler that answers.

Groups of a pattern are arguments of the handler's methods, already decoded; pass names through `security.inside`.
"""

from tornado.web import RequestHandler

from eucentric.viewer.index_page import IndexHandler
from eucentric.viewer.static_files import StaticHandler

NAME = r"([^/]+)"
"""One part of a path: the name of a series, a list of picks."""

ROUTES: list[tuple[str, type[RequestHandler]]] = [
    (r"/", IndexHandler),
    (r"/static/([\w.-]+)", StaticHandler),
]
