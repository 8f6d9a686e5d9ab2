"""How far a judge goes, and how much further its self-check: for these and for what a run will
cost. No torch."""

TARGETS = 9
"""Classes that targeted APGD aims at: those of the largest logits beside the label's."""

RETRIED, MORE_STEPS = 200, 3
"""Images that one made to judge is tried on once more, by APGD of so many times the steps (ours),
and on what still stands by Square of `more_queries`."""


def more_queries(queries: int) -> int:
    """Five times as many, but beyond AutoAttack's 5,000 no more (ours)."""
    return max(queries, min(5 * queries, 5000))
