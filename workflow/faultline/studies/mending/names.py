"""Words that the tables of mending share. No torch."""

GIVEN = "given"
"""The network that was there before, beside its mends."""

CHOSEN = "chosen"
"""The candidate that validation images chose, whichever it is, where tables go over seeds."""

WORST = "worst case"
"""The image set of all attacks on the network itself and on each other one."""

BUDGETS = (0.01, 0.02, 0.05, 0.1)
"""Losses of clean accuracy that the report tells the price of."""
