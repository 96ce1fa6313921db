"""Makes the modules beside the tests of truth importable."""

import sys
from pathlib import Path

_TRUTH = str(Path(__file__).parent.parent / "truth")
if _TRUTH not in sys.path:
    sys.path.insert(0, _TRUTH)
