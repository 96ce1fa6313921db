"""Figures as journals want them: the width of a column, one size of letters, text that stays text."""

from io import BytesIO

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from eucentric.errors import InputError

ONE_COLUMN_MM, TWO_COLUMNS_MM = 85.0, 178.0
FORMATS = ("png", "pdf", "svg")
_INCH_MM = 25.4
_NARROW_MM = 120.0  # below, letters are one point smaller
_LETTERS_PT = 8.0
_LEAST_MM, _MOST_MM = 30.0, 1000.0


def publication_figure(figure: Figure, form: str, *, width_mm: float = TWO_COLUMNS_MM, dpi: int = 300) -> bytes:
    """A figure as a file of a given width; the same figure gives the same bytes.

    Pictures keep their proportions; plots get less flat as they get narrower. No letter is larger than 8 points, 7 below 120 mm.

    Parameters
    ----------
    form : png, pdf or svg
    dpi : dots per inch of PNG, and of pictures within the others

    Raises
    ------
    InputError : another format, or a size that is none
    """
    if form not in FORMATS:
        raise InputError(f"Figures are written as {', '.join(FORMATS)}; got `{form}`. Change the ending of --output.")
    if not _LEAST_MM <= width_mm <= _MOST_MM:
        raise InputError(
            f"A width of {width_mm:g} mm was given; expected {_LEAST_MM:g} to {_MOST_MM:g}. Columns of journals are "
            f"{ONE_COLUMN_MM:g} and {TWO_COLUMNS_MM:g} mm wide."
        )
    if not 30 <= dpi <= 2400:
        raise InputError(f"{dpi} dots per inch were asked for; expected 30 to 2400.")
    wide, high = figure.get_size_inches()
    ratio = width_mm / _INCH_MM / float(wide)
    pictures = any(axes.get_aspect() != "auto" for axes in figure.axes)
    # more letters stand in a line of a narrow plot: it needs more height than its share
    figure.set_size_inches(width_mm / _INCH_MM, float(high) * (ratio if pictures or ratio > 1.0 else ratio**0.5))
    letters = _LETTERS_PT if width_mm >= _NARROW_MM else _LETTERS_PT - 1.0
    for text in figure.findobj(Text):
        text.set_fontsize(min(text.get_fontsize(), letters))
    about = {"png": {"Software": "Eucentric"}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}[form]
    target = BytesIO()
    # letters as letters, not as outlines
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "eucentric"}):
        figure.savefig(target, format=form, dpi=dpi, metadata=about)
    return target.getvalue()
