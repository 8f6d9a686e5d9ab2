import pandas as pd
import pytest
from run_tables import make_config, make_tables, said

from faultline.studies.retraining.section import findings, section


@pytest.fixture(scope="module")
def tables():
    return make_tables()


@pytest.mark.parametrize(
    ("counts", "words"), [([0, 0], "froze nothing, as"), ([9, 9], "froze everything"), ([3, 3], "")]
)
def test_what_selective_froze_is_said_plainly(tables, counts, words):
    table = tables["retraining"]
    frozen = table["policy"].eq("selective") * counts[0] + table["policy"].ne("selective") * 3
    changed = tables | {"retraining": table.assign(frozen=frozen, freezable=9)}
    for shown in (findings(changed, make_config()), section(changed, make_config())):
        assert (words in said(shown)) if words else ("froze nothing" not in said(shown))


def test_of_several_epochs_the_last_is_shown_whole_and_one_figure_goes_over_all():
    tables = make_tables(epochs=[3])
    earlier = {name: tables[name].assign(epoch=1) for name in ("comparison", "retraining")}
    both = {name: pd.concat([table, tables[name]]) for name, table in earlier.items()}
    (block,) = section(tables | both, make_config()).blocks
    assert [figure.id for figure in block.figures] == [
        "figure-retraining-0",
        "figure-retraining-0-epochs",
    ]
    assert "from epoch 3." in block.figures[0].caption
    (shown,) = block.tables
    assert shown.columns[0] == "from epoch" and {row[0] for row in shown.rows} == {1, 3}
    (block,) = section(tables, make_config()).blocks
    assert len(block.figures) == 1 and block.heading.endswith(", from epoch 3")


def test_one_seed_says_nothing_of_others():
    tables = make_tables(seeds=[4], epochs=[0])
    assert "which says nothing of others" in said(findings(tables, make_config(seeds=[4])))
