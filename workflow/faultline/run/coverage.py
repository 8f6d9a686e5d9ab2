"""What of the user's own networks a run does not look at, in words. No torch."""

from faultline.base.errors import printable
from faultline.networks.facts import networks
from faultline.networks.selection import hidden_activations
from faultline.studies.fragile.config import Targeting

ENOUGH = 0.99
"""Share of the parameters in layers from which on it goes without saying (ours)."""

NAMED = 3
"""So many parts are named, the largest ones."""


def notes(
    names: list[str], *, targeting: Targeting, norms: bool, parameters: bool
) -> dict[str, str]:
    """Network -> what to know of it; only of those of which there is something. Of the built-in
    networks, less than 2 % of the parameters are in no layer, and these are of normalisations."""
    texts = {
        name: printable("; ".join(_parts(name, targeting, norms, parameters))) for name in names
    }
    return {name: text for name, text in texts.items() if text}


def _parts(name: str, targeting: Targeting, norms: bool, parameters: bool) -> list[str]:
    facts = networks()[name]
    seen = [*["norm"] * norms, *[""] * parameters]
    rest = [row for row in facts.get("unseen", []) if row[3] not in seen]
    share = 1 - sum(row[2] for row in rest) / max(facts.get("parameters", 1), 1)
    unused = [row for row in rest if row[3] == "unused"]
    other = [row for row in rest if not row[3]]
    parts = []
    if share < ENOUGH:
        parts = [f"{_percent(share)} of its parameters are in layers that can be ablated"]
        unseen = sum(row[3] == "norm" for row in rest)
        bare = [f"{_named(other)} (ablation.parameters: true adds these)"] * bool(other)
        missing = [*bare, *[f"{unseen} normalisations"] * bool(unseen)]
        if missing:
            parts.append(f"not: {', '.join(missing)}")
    if unused:
        what = {"token": "sequence"}.get(facts["input"], facts["input"])
        noise = f"not reached by {facts['tried']} {what}s of noise"
        how = noise if facts["tried"] else "on no path to the logits"
        parts.append(f"{how}: {_named(unused)}")
    if form := facts.get("form"):
        parts.append(form)
    if not targeting.at and (reasons := hidden_activations(name, targeting.layers)):
        parts.append(f"{reasons[0]}, so targeting reads the outputs of its layers")
    return parts


def _percent(share: float) -> str:
    """Rounded down, so that 100 % is all."""
    return f"{int(100 * share)} %" if share >= 0.01 else f"{100 * share:.1f} %"


def _named(rows: list[list]) -> str:
    rows = sorted(rows, key=lambda row: -row[2])
    shown = rows if len(rows) == NAMED + 1 else rows[:NAMED]
    more = f" and {len(rows) - len(shown)} more" if len(rows) > len(shown) else ""
    return ", ".join(f"{path} ({of}, {count:,})" for path, of, count, _ in shown) + more
