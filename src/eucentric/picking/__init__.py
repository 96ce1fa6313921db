"""Finding particles: template matching with statistics."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "MatchParams": "params",
        "MatchResult": "match_templates",
        "Template": "templates",
        "TomogramTransfer": "tomogram_transfer",
        "match_templates": "match_templates",
        "sphere_template": "templates",
        "template_from_atoms": "templates",
        "template_from_map": "templates",
    },
)
