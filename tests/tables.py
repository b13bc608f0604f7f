"""What is derived from declarations and committed: written by `make tables`, held by a test."""

import re
import sys
from pathlib import Path

from core import commands, options, policy, providers
from core.cli import example

ROOT = Path(__file__).parent.parent
TABLES = {"commands": commands.table, "options": options.table, "engines": providers.table}


def expected() -> dict[Path, str]:
    """Each derived file with the text it should have."""
    readme = (ROOT / "README.md").read_text()
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        inside = f"{begin}\n{table()}\n{end}"
        readme = re.sub(f"{begin}.*{end}", lambda _, text=inside: text, readme, flags=re.DOTALL)
    return {
        ROOT / ".env.example": example(),
        ROOT / "policy.example.toml": policy.example(),
        ROOT / "README.md": readme,
    }


if __name__ == "__main__" and "--write" in sys.argv:
    for path, text in expected().items():
        path.write_text(text)
