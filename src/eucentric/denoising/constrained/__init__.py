"""The missing wedge filled without a network: the simplest volume of one contrast that agrees with what was measured."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ConstrainedParams": "params",
        "Filled": "fill_constrained",
        "Progress": "fill_constrained",
        "constrained_bytes": "fill_constrained",
        "fill_constrained": "fill_constrained",
    },
)
