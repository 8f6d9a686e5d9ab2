"""What training the picks of a criterion gains, and the referee's answer. No torch."""

from collections.abc import Sequence

import pandas as pd

from faultline.base.columns import CONTROL, RUN
from faultline.base.comparison import compare_policies, with_correction
from faultline.base.statistics import holm
from faultline.studies.criteria.names import OPPOSITE, REFERENCES

PAIR = [*RUN, "epoch", "criterion", "images"]

REFEREE = [
    *(*RUN, "epoch", "criterion", "images", "recipe", "seeds", "n"),
    *("agreement", "agreement_low", "agreement_high", "agreement_q"),
    *("accuracy", "gain", "gain_low", "gain_high", "gain_q", "detectable", "passes"),
]


def gains(correct: list[dict], places: Sequence[dict], *, confidence: float) -> pd.DataFrame:
    """Accuracy after training what each criterion picks less the mean of the draws at random, as
    `base.comparison.compare_policies`; q_value and detectable are corrected over all recipes, too.

    correct: image set -> bool [n] of one training; places: its checkpoint, recipe and criterion.
    """
    given = {"reference": CONTROL, "confidence": confidence}
    return with_correction(_compared(correct, places, **given), confidence=confidence)


def fixed_tests(
    correct: Sequence[dict],
    places: Sequence[dict],
    tests: Sequence[tuple[str, str]],
    *,
    confidence: float,
) -> pd.DataFrame:
    """Accuracy under attack after training one pick less that of another, of each of `tests`, as
    `gains`; q_value and detectable are corrected over these alone (Holm)."""
    table = _compared(correct, places, confidence=confidence, tests=tests)
    return with_correction(table, confidence=confidence, correction=holm)


def _compared(correct: Sequence[dict], places: Sequence[dict], **given) -> pd.DataFrame:
    """`compare_policies` of each recipe, not corrected."""
    parts = []
    for recipe in dict.fromkeys(place["recipe"] for place in places):
        chosen = [index for index, place in enumerate(places) if place["recipe"] == recipe]
        part = compare_policies(
            [correct[index] for index in chosen],
            [places[index] | {"policy": places[index]["criterion"]} for index in chosen],
            **given,
        )
        if len(part):
            part.insert(part.columns.get_loc("policy"), "recipe", recipe)
            parts.append(part.drop(columns="q_value").rename(columns={"policy": "criterion"}))
    empty = pd.DataFrame(columns=[*PAIR, "recipe", "level", "p_value"])
    return pd.concat(parts, ignore_index=True) if parts else empty


def referee(predictions: pd.DataFrame, gained: pd.DataFrame) -> pd.DataFrame:
    """Criterion by criterion, run by run: how well it predicts what layers are worth (NaN where
    that is not known), what training its picks gains over random ones, and what it costs.

    Columns: see REFEREE; agreement is Spearman's with the accuracy lost, gain a share.
    """
    if not len(gained):
        return pd.DataFrame(columns=REFEREE)
    whole = gained[(gained["level"] == "all seeds") & ~gained["criterion"].isin(REFERENCES)]
    names = {"difference": "gain", "ci_low": "gain_low", "ci_high": "gain_high"}
    whole = whole.rename(columns=names | {"q_value": "gain_q"})
    ends = {"spearman_low": "agreement_low", "spearman_high": "agreement_high"}
    over_seeds = predictions["level"] == "all seeds"
    agreement = predictions[over_seeds & (predictions["units"] == "layers")]
    agreement = agreement.rename(columns={"spearman": "agreement", "q_value": "agreement_q"} | ends)
    agreement = agreement[[*PAIR, "agreement", *ends.values(), "agreement_q"]]
    table = whole.merge(agreement, on=PAIR, how="left")
    cost = predictions.groupby([*RUN, "epoch", "criterion"])["passes"].first().reset_index()
    of = table["criterion"].str.removesuffix(OPPOSITE)  # either end has the same scores
    cost = cost.rename(columns={"criterion": "of"})
    return table.assign(of=of).merge(cost, how="left")[REFEREE]
