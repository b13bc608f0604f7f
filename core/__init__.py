"""The product without any chat or model: what was asked, in which order, and how it ended."""
