"""No claim of robustness where a sign of masking stands."""

import pandas as pd
import pytest
from run_tables import make_config, make_tables, said

from faultline.attacks.checks import masked, row
from faultline.base.columns import PLACE
from faultline.studies.accuracy import section as accuracy
from faultline.studies.fragile import section as fragile
from faultline.studies.overview import verdict
from faultline.studies.retraining import section as retraining

WHY = masked([row("saturated_logits", False, "")])
REFUSED = "not to be believed"


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def doubted(tables, *, epoch=3, check="saturated_logits", **others):
    """With a warning of one checkpoint, of the last epoch unless said."""
    checks = tables["checks"]
    at = checks[checks["epoch"] == epoch].iloc[0]
    bad = pd.DataFrame([row(check, False, "")]).assign(**dict(at[[*PLACE, "attack"]]) | others)
    return tables | {"checks": pd.concat([checks, bad], ignore_index=True)}


def cells(tables):
    table = verdict(tables, make_config())
    return dict(zip(table.columns, table.rows[0], strict=True))


CLAIMS = ("under the worst attack", "did retraining help?", "did the remedy help?")


def test_the_first_screen_refuses_to_say_that_a_masked_network_is_robust_or_was_mended(tables):
    for heading in CLAIMS:
        cell = cells(doubted(tables))[heading]
        assert (cell.text, cell.small, cell.link, cell.tone) == (REFUSED, WHY, "#checks", "no")
        for other in (tables, doubted(tables, epoch=1), doubted(tables, network="another")):
            assert cells(other)[heading].text != REFUSED
        assert cells(doubted(tables, check="near_worst_case"))[heading].text != REFUSED


@pytest.mark.parametrize(
    "findings", [accuracy.accuracy_findings, retraining.findings, fragile.remedy_findings]
)
def test_what_was_found_says_why_and_claims_nothing_under_attack(tables, findings):
    words, before = (said(findings(of, make_config())) for of in (doubted(tables), tables))
    assert WHY in words and REFUSED not in before
    if findings is not accuracy.accuracy_findings:
        assert "nder pgd" in before and "nder pgd" not in words and "clean" in words


@pytest.mark.parametrize("section", [accuracy.under_attack, retraining.section, fragile.remedy])
def test_sections_say_it_beside_their_figures(tables, section):
    assert WHY in said(section(doubted(tables), make_config()))
    assert REFUSED not in said(section(tables, make_config()))


def test_a_retrained_network_may_be_masked_where_its_checkpoint_is_not(tables):
    table = tables["retraining"].assign(masked=float("nan"))  # as empty text is read
    assert cells(tables | {"retraining": table})["did retraining help?"].text != REFUSED
    here = (table["policy"] == "selective") & (table["epoch"] == 3) & (table["seed"] == 1)
    table["masked"] = table["masked"].astype(object).mask(here, WHY)
    found = cells(tables | {"retraining": table})
    assert found["did retraining help?"].small == WHY
    assert found["under the worst attack"].text != REFUSED
