"""faultline: which parts of a network are fragile, robust or antifragile, and how to mend it."""
