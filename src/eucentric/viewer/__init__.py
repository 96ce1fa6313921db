"""The project in a browser: pages, volumes made when asked for, and who may see them."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Viewer": "serve",
        "make_viewer": "serve",
    },
)
