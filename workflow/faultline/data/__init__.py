"""Data sets: their sources, how files are decoded, and disjoint, stratified splits."""
