"""Everything that makes pictures."""
