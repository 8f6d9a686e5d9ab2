"""Trainings: epochs, recipes, checkpoints, and the search for settings."""
