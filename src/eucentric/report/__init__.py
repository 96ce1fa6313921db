"""The report: pages of HTML, each whole in itself, from plain records."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "MetricTable": "content",
        "Picture": "content",
        "ProjectPage": "content",
        "ReportParams": "params",
        "Section": "content",
        "SeriesPage": "content",
        "SeriesRow": "content",
        "SliceImages": "sections",
        "Slider": "content",
        "Strip": "content",
        "Tile": "content",
        "alignment_section": "alignment_sections",
        "ctf_section": "ctf_sections",
        "excluded_section": "alignment_sections",
        "methods": "methods",
        "motion_section": "sections",
        "render_project": "pages",
        "render_series": "pages",
        "tomogram_section": "sections",
    },
)
