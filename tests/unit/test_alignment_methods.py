"""What the report says of how tilt series were aligned."""

import pytest

from eucentric.report.methods import methods


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("beads", "gold beads"),
        ("patches", "by patches followed"),
        ("projection", "without fiducials"),
        ("none", "as imported"),
    ],
)
def test_the_text_names_what_was_used(method, words):
    text, references = methods({"align": [{"method": method}]}, "1.0")
    assert words in " ".join(text)
    assert "Deformation" not in " ".join(text)
    bent, _ = methods({"align": [{"method": method, "deformed": True}]}, "1.0")
    assert "Deformation of the specimen" in " ".join(bent)
    assert bool(references) == (method != "none")
