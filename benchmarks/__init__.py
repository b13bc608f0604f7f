"""Measured ratios, each within one run: these machines are noisy."""
