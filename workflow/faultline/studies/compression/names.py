"""Words that the tables of compression share. No torch."""

SAFE, COSTLY, UNDECIDED = "safe", "costly", "undecided"

ALL = "all layers"
"""What is compressed together: every layer that is chosen."""

AS_ONE = "all layers as one"
"""The same, the smallest weights of all."""

STAND = "layers that stand it"
"""The layers that are safe alone, as many as are safe together on validation images."""

FEWEST = "fewest bits"
"""In place of a form: each layer in the fewest bits in which it is safe alone."""
