import pandas as pd

from faultline.studies.criteria.earlier import with_earlier
from faultline.studies.criteria.judge import COLUMNS


def test_other_studies_join_with_the_layers_that_are_scored():
    rows = [("fisher", "a", None, 1.0, 9, 4), ("fisher", "a", 0, 2.0, 9, 4)]
    judged_rows = pd.DataFrame(rows, columns=COLUMNS)
    filters = pd.DataFrame(
        [("a", 0, "S_adv", "p", 0.5), ("b", 0, "S_adv", "p", 0.7), ("a", 0, "S_adv", "f", 0.9)],
        columns=["layer", "filter", "score", "attack", "value"],
    ).assign(n=8)
    table = with_earlier(judged_rows, {"filters": filters}, attack="f", layers=["a"])
    assert table["criterion"].tolist() == ["fisher", "fisher", "dropout_adversarial"]
    assert table["score"].tolist() == [1, 2, -0.9] and {*table["layer"]} == {"a"}
    assert table["n"].tolist() == [9, 9, 8] and table["passes"].isna().tolist() == [0, 0, 1]
    assert [str(table[name].dtype) for name in ("filter", "passes")] == ["Int64"] * 2
