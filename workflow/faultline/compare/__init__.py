"""Finished runs: side by side, listed, and what of one goes into a paper."""
