import numpy as np
import pandas as pd
import pytest
from run_tables import make_config, make_tables, said

from faultline.studies.fragile.section import (
    remedy,
    remedy_findings,
    targeting,
    targeting_findings,
)


@pytest.fixture(scope="module")
def tables():
    return make_tables()


def told(tables, **changes):
    """The finding on targeting, with changes of the excess' Spearman over all seeds."""
    table = tables["association"].copy()
    whole = (table["level"] == "all seeds") & (table["statistic"] == "spearman")
    # whatever the share alone says
    table.loc[whole & (table["measure"] == "share"), ["value", "p_value", "q_value"]] = 0.9, 0, 0
    excess = whole & (table["measure"] == "excess")
    table.loc[excess, [*changes]] = [*changes.values()]
    return said(targeting_findings(tables | {"association": table}, make_config()))


def test_that_an_attack_aims_is_said_only_of_a_corrected_excess_over_noise(tables):
    assert "pgd: it aims at fragile filters (" in told(
        tables, value=0.5, p_value=0.01, q_value=0.04
    )
    assert "pgd: it spares fragile filters (" in told(
        tables, value=-0.5, p_value=0.01, q_value=0.04
    )
    text = told(tables, value=0.5, p_value=0.01, q_value=0.06, detectable=0.625, tests=16)
    assert "aims at fragile filters cannot be told (" in text and ": it aims" not in text
    assert "equal norm: 0.500, corrected p = 0.060, 10 filters in 2 seeds)." in text
    assert "p = 0.010 before correction; told from chance, with 80 % power, would be 0.625" in text
    assert "the only one of 16 tests" in text
    assert "share alone 0.900 (p < 0.001, corrected < 0.001)" in text
    assert "undefined: nothing varies" in told(tables, value=np.nan)


def test_the_level_is_that_of_the_run(tables):
    table = tables["association"].assign(value=0.5, p_value=0.01, q_value=0.04)
    config = make_config(scores={"confidence": 0.99})
    shown = targeting_findings({**tables, "association": table}, config)
    assert ": it aims" not in said(shown)


def test_every_measure_is_in_the_table_with_corrected_p_values(tables):
    page = targeting(tables, make_config())
    (shown, *_) = page.blocks[0].tables
    cells = pd.DataFrame(shown.rows, columns=shown.columns)
    assert list(cells["targeting"].unique()) == [
        *("share", "change / clean norm", "share minus that of noise")
    ]
    assert {"p", "q", "smallest told"} <= {*cells} and len(cells) == 8 * 3


def test_the_remedy_is_set_beside_its_control(tables):
    page = remedy(tables, make_config())
    (shown, gains) = page.blocks[0].tables
    cells = pd.DataFrame(shown.rows, columns=shown.columns)
    assert set(cells.loc[cells["policy"] == "fragile", "minus"]) == {"no change", "random"}
    assert set(cells.loc[cells["policy"] == "random", "minus"]) == {"no change"}
    policies = {row[gains.columns.index("policy")] for row in gains.rows}
    assert policies == {"fragile", "random-0", "random-1"}
    text = said(remedy_findings(tables, make_config()))
    assert "; minus gains dealt at random and tuned alike, " in text
