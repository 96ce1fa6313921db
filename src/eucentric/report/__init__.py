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
        "alignment_section": "sections",
        "ctf_section": "sections",
        "excluded_section": "sections",
        "methods": "methods",
        "motion_section": "sections",
        "render_project": "pages",
        "render_series": "pages",
        "tomogram_section": "sections",
    },
)
