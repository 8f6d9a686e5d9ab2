import numpy as np
import pandas as pd
import pytest

from faultline.studies.sustainability.lists import (
    agreement,
    by_perturber,
    list_table,
    listed_layers,
    most_vulnerable,
    probe_table,
    vulnerable,
)

ERRORS = {"a": np.array([1.0, 3.0]), "b": np.array([6.0, 8.0]), "c": np.array([2.0, 4.0])}


def test_mu_sigma_and_list_by_hand():
    # all six errors: mean 4, squared distances 9 1 4 16 4 0; means of a, b, c: 2, 7, 3
    listed, mu, sigma = most_vulnerable(ERRORS, eta=1.0)
    assert mu == 4 and sigma == pytest.approx((34 / 6) ** 0.5)
    assert listed == ["b"]
    assert most_vulnerable(ERRORS, eta=3 / sigma + 1e-9)[0] == []
    assert most_vulnerable(ERRORS, eta=-0.5)[0] == ["b", "c"]
    assert most_vulnerable(ERRORS, eta=-2)[0] == ["b", "c", "a"]


def test_a_layer_on_the_limit_is_not_listed():
    assert most_vulnerable({"a": [1.0], "b": [1.0]}, eta=0) == ([], 1.0, 0.0)


def test_single_precision_errors_are_summed_in_double():
    errors = {"a": np.full(100_000, 0.1, np.float32), "b": np.full(100_000, 0.3, np.float32)}
    _, mu, sigma = most_vulnerable(errors, eta=0)
    assert mu == pytest.approx(0.2, rel=1e-7) and sigma == pytest.approx(0.1, rel=1e-6)


def test_tables_of_a_checkpoint():
    arrays = {f"{p}/{probe}": e for p in ("pgd", "salt") for probe, e in ERRORS.items()}
    errors = by_perturber(arrays)
    assert list(errors) == ["pgd", "salt"] and list(errors["salt"]) == ["a", "b", "c"]

    probes = probe_table(errors, eta=0.5, confidence=0.95)
    assert list(probes["perturber"]) == ["pgd"] * 3 + ["salt"] * 3
    assert list(probes["position"]) == [0, 1, 2] * 2
    row = probes.iloc[1]
    assert row[["probe", "value", "std", "n", "mvl"]].tolist() == ["b", 7, 1, 2, True]
    t = 12.7062047  # Student's, 1 degree; standard error 1
    assert row["ci_low"] == pytest.approx(7 - t) and row["ci_high"] == pytest.approx(7 + t)
    assert probes["mvl"].tolist() == [False, True, False] * 2

    lists = list_table(errors, etas=[-2, 0, 5])
    assert lists["mvl"].tolist() == ["b,c,a", "b", "none"] * 2
    assert lists["layers"].tolist() == [3, 1, 0] * 2
    assert lists["limit"].tolist()[1] == 4
    assert [listed_layers(text) for text in lists["mvl"][:3]] == [["b", "c", "a"], ["b"], []]


def test_a_checkpoint_has_probes_at_eta_and_lists_at_every_eta(capsys):
    errors = {"pgd": ERRORS, "salt": ERRORS}
    probes, lists = vulnerable(errors, eta=0.5, eta_grid=[-2, 0.5], confidence=0.9)
    pd.testing.assert_frame_equal(probes, probe_table(errors, eta=0.5, confidence=0.9))
    pd.testing.assert_frame_equal(lists, list_table(errors, etas=[-2, 0.5]))
    assert capsys.readouterr().out == "pgd, eta 0.5: b\nsalt, eta 0.5: b\n"


def tables(lists):
    """The tables of a run whose only list at eta 1 is, by (seed, epoch, perturber), the given."""
    run = {"dataset": "digits", "network": "net", "training": "standard"}
    rows, probes = [], []
    for (seed, epoch, perturber), text in lists.items():
        place = run | {"seed": seed, "epoch": epoch, "perturber": perturber}
        rows.append(place | {"eta": 1.0, "mvl": text, "layers": len(listed_layers(text))})
        probes += [place | {"probe": probe} for probe in "abcd"]
    return pd.DataFrame(rows), pd.DataFrame(probes)


def test_agreement_over_seeds_by_hand():
    found = agreement(*tables({(0, 1, "pgd"): "a,b", (1, 1, "pgd"): "b,c", (2, 1, "pgd"): "none"}))
    assert list(found["over"]) == ["seed"]
    row = found.iloc[0]
    assert row["value"] == pytest.approx((1 / 3 + 0 + 0) / 3)
    assert row["pairs"] == 3 and row["layers"] == pytest.approx(4 / 3)
    statsmodels = pytest.importorskip("statsmodels.stats.inter_rater")
    votes = [[1, 2], [2, 1], [1, 2], [0, 3]]  # a, b, c, d: listed, not
    assert row["kappa"] == pytest.approx(statsmodels.fleiss_kappa(np.array(votes)))


def test_agreement_holds_the_other_axes_fixed():
    found = agreement(
        *tables(
            {
                (0, 1, "pgd"): "a",
                (1, 1, "pgd"): "a",
                (0, 2, "pgd"): "b",
                (1, 2, "pgd"): "b",
                (0, 1, "salt"): "a,c",
                (1, 1, "salt"): "c",
                (0, 2, "salt"): "none",
                (1, 2, "salt"): "none",
            }
        )
    ).set_index("over")
    assert list(found.index) == ["seed", "epoch", "perturber"]
    assert found["value"].to_dict() == pytest.approx(
        {"seed": (1 + 1 + 1 / 2) / 3, "epoch": 0, "perturber": (1 / 2 + 0 + 0 + 0) / 4}
    )
    assert found["pairs"].to_dict() == {"seed": 3, "epoch": 4, "perturber": 4}


def test_empty_lists_agree_on_nothing():
    row = agreement(*tables({(0, 1, "pgd"): "none", (1, 1, "pgd"): "none"})).iloc[0]
    assert np.isnan(row["value"]) and np.isnan(row["kappa"]) and row["pairs"] == 0


def test_nothing_to_compare():
    assert not len(agreement(*tables({(0, 1, "pgd"): "a"})))
    assert not len(agreement(pd.DataFrame(), pd.DataFrame()))
