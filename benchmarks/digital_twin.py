"""What digital twins of a practice series say, beside what the truth says of the project they are like.

Run: python benchmarks/digital_twin.py PROJECT DATA TWIN [TWIN ...]; PROJECT has picked TS_01 (30S and 20S), DATA is the folder of
shared test data, and each TWIN was made by `eucentric simulate TWIN --like PROJECT --like-series TS_01 --run`.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from eucentric.pipeline.scoring import score_project
from eucentric.pipeline.twin_plan import carried_plan
from eucentric.pipeline.twin_scores import score_picking

SERIES, KINDS = "TS_01", {0: "4v4r_30S", 1: "3j9i"}


def measure(project: Path, data: Path, twins: list[Path]) -> None:
    """Print true and predicted figures, and the prediction over the truth."""
    truth = data / "practice" / f"{SERIES}_truth.json"
    real = {row.metric: row.value for row in score_project(project, [truth])}
    pick = carried_plan(project, SERIES, project).pick
    for row in score_picking(project, truth, SERIES, pick, KINDS):
        real |= {f"{row.kind}: F1": row.f1, f"{row.kind}: precision": row.precision, f"{row.kind}: recall": row.recall}
    values: dict[str, list[float]] = {}
    for twin in twins:
        saved = json.loads((twin / "expected.json").read_text())
        for name, one in saved["expected"].items():
            values.setdefault(name, []).extend(v for v in one["values"] if v is not None)
        for kind, rows in saved["picking"].items():
            for name in ("F1", "precision", "recall"):
                values.setdefault(f"{kind}: {name}", []).extend(v for v in rows[name]["values"] if v is not None)
    for name, true in real.items():
        found = values.get(name, [])
        if found:
            sd = np.std(found, ddof=1) if len(found) > 1 else float("nan")
            ratio = np.mean(found) / true if true else float("nan")
            print(f"{name:<32} true {true:8.3f}  twin {np.mean(found):8.3f} +- {sd:.3f}  ratio {ratio:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("twins", type=Path, nargs="+")
    given = parser.parse_args()
    measure(given.project, given.data, given.twins)
