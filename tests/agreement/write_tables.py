"""Writes the measured tables of docs/reference/formats.md anew."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from geometry_tables import feature_table, pair_table, replaced, words_table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    text = PAGE.read_text(encoding="utf-8")
    text = replaced(text, "what formats keep", feature_table(folder / "features")[0])
    text = replaced(text, "conventions of tilt series", words_table())
    text = replaced(text, "pairs of tilt series", pair_table(folder / "pairs"))
    PAGE.write_text(text, encoding="utf-8")
