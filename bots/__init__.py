"""Everything that speaks to a chat platform."""
