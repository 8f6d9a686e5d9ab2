"""Columns and words that the tables share."""

RUN = ["dataset", "network", "training"]

CLASSES = ("fragile", "robust", "antifragile", "untouched", "undefined")
