"""Words that the tables of stresses share. No torch."""

ALL = "mean of all"
"""In place of a stress: the mean over all of them."""

FURTHER = "@further"
"""How the image set of a further test set ends."""
