"""Finished runs, and any two tables of right and wrong, side by side."""
