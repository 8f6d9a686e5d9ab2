import pandas as pd
import pytest

from faultline.base import paths
from faultline.base.files import save_table
from faultline.base.paths import gather, place_of

RUN = {"dataset": "d", "network": "n", "training": "t"}
PLACE = RUN | {"seed": 0, "epoch": 12}
AT = "d/n/t/seed-0/epoch-12"


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("checkpoint.pt", {}),
        ("attacks/pgd/accuracy.tsv", {"attack": "pgd"}),
        ("layers/layer1.0.conv1/synaptic-filtering.npz", {"layer": "layer1.0.conv1"}),
        ("layers/fc/nodal-dropout/0-9.npz", {"layer": "fc"}),
        ("layers/fc/own/halve.npz", {"layer": "fc", "ablation": "halve"}),
        ("retraining/random-1/result.tsv", {"policy": "random-1"}),
        ("remedy/fragile/correct.npz", {"policy": "fragile"}),
        ("remedy/gains.tsv", {}),
        ("robustness/accuracy.tsv", {}),
    ],
)
@pytest.mark.parametrize("results", ["results", "a/b-c", "/somewhere/else", "seed-1/epoch-1"])
def test_the_place_of_a_file(results, path, more):
    found = place_of(f"{results}/{AT}/{path}")
    assert found == PLACE | more
    assert list(found) == [*PLACE, *more]  # in the order of the columns


def test_a_training_may_be_called_like_a_seed():
    found = place_of("results/seed-1/epoch-2/seed-3/seed-0/epoch-12/history.tsv")
    assert found == PLACE | {"dataset": "seed-1", "network": "epoch-2", "training": "seed-3"}


def test_a_search_is_of_no_seed():
    assert place_of("results/d/n/t/tuning/candidates.tsv") == RUN


@pytest.mark.parametrize("pattern", [paths.OWN_ABLATION, paths.REMEDY, paths.LAYER, paths.ATTACK])
def test_patterns_and_places_are_inverse(pattern):
    place = PLACE | {"layer": "fc", "ablation": "halve", "attack": "pgd", "policy": "none"}
    file = pattern.format(**place) + ("" if pattern.endswith(".npz") else "/x.tsv")
    assert place_of(f"results/{file}").items() <= place.items()


def test_what_lies_elsewhere_has_no_place():
    with pytest.raises(ValueError, match=r"tables/accuracy\.tsv is no file of"):
        place_of("results/tables/accuracy.tsv")


def test_tables_are_gathered_behind_their_places(tmp_path):
    files = [tmp_path / AT / f"attacks/{name}/accuracy.tsv" for name in ("fgsm", "pgd", "none")]
    for file, rows in zip(files, (2, 1, 0), strict=True):
        save_table(pd.DataFrame({"eps": [0.1] * rows, "n": [7] * rows}), file)
    together = tmp_path / AT / "robustness/accuracy.tsv"
    save_table(pd.DataFrame({"attack": ["apgd"], "eps": [0.2], "n": [8]}), together)
    table = gather([*files, together])
    assert list(table) == [*PLACE, "attack", "eps", "n"]
    assert table["attack"].tolist() == ["fgsm", "fgsm", "pgd", "apgd"]
    assert table["n"].tolist() == [7, 7, 7, 8] and set(table["epoch"]) == {12}
    assert len(gather([])) == 0 and not len(gather(files[2:]))
