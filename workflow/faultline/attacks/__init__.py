"""Attacks on the inputs of a network."""
