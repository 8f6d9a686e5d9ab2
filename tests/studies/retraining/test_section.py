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


def test_one_seed_says_nothing_of_others():
    tables = make_tables(seeds=[4], epochs=[0])
    assert "which says nothing of others" in said(findings(tables, make_config(seeds=[4])))
