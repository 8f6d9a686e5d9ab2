"""Attacks: how they follow a gradient, what they craft, and the checks they must pass."""
