"""What holds for every test."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Processes that tests start import this checkout, also when it is not installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
