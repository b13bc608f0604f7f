"""What is derived from declarations and committed: written by `make tables`, held by a test."""

import re
import sys
from pathlib import Path

from core import policy
from core.cli import example
from core.options import table

ROOT = Path(__file__).parent.parent
MARKS = "<!-- options -->", "<!-- end of options -->"


def expected() -> dict[Path, str]:
    """Each derived file with the text it should have."""
    readme = (ROOT / "README.md").read_text()
    inside = f"{MARKS[0]}\n{table()}\n{MARKS[1]}"
    readme = re.sub(f"{MARKS[0]}.*{MARKS[1]}", lambda _: inside, readme, flags=re.DOTALL)
    return {
        ROOT / ".env.example": example(),
        ROOT / "policy.example.toml": policy.example(),
        ROOT / "README.md": readme,
    }


if __name__ == "__main__" and "--write" in sys.argv:
    for path, text in expected().items():
        path.write_text(text)
