"""Settings that must be made before anything is imported."""

from __future__ import annotations

import os

# Threads that wait for work sleep instead of spinning: ten times faster on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
