"""The scripts that made worker/starter_model: one command, resumable, data from a registry."""

import os

# Before torch is loaded: its waiting threads sleep soon, so that other work can run beside
# (spinning for ever is a tenth faster alone and a hundred times slower beside a test run).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
