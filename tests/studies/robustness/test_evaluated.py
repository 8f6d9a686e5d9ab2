import numpy as np
from trainings import dataset_of, network_of

from faultline.attacks.run import attacked
from faultline.studies.robustness.evaluated import evaluated

COMMON = {"norm": "linf", "normalised_units": False}
ATTACKS = {
    "strong": COMMON | {"method": "pgd", "steps": 2, "eps": 0.2, "eps_grid": [0.0, 0.1, 0.2]},
    "fast": COMMON | {"method": "fgsm", "eps": 0.05, "eps_grid": [0.0, 0.05]},
}


def test_each_attack_is_named_and_on_its_own_grid():
    network, dataset = network_of().eval(), dataset_of(test=23)
    found = evaluated(network, dataset, attacks=ATTACKS, seed=5)
    assert found.accuracy["attack"].tolist() == ["strong"] * 3 + ["fast"] * 2
    assert found.accuracy["eps"].tolist() == [0.0, 0.1, 0.2, 0.0, 0.05]
    assert {*found.accuracy["n"]} == {23}
    assert [*found.correct] == ["strong/0", "strong/0.1", "strong/0.2", "fast/0", "fast/0.05"]
    rows, checks = [], []
    for name, attack in ATTACKS.items():
        alone = attacked(network, dataset, attack=attack, name=name, seed=5)
        rows += [{"attack": name} | row for row in alone.accuracy]
        checks += [{"attack": name} | row for row in alone.checks]
        for eps, hits in alone.correct.items():
            assert np.array_equal(found.correct[f"{name}/{eps:g}"], hits)
    assert found.accuracy.to_dict("records") == rows
    assert [{**row} for row in found.checks.to_dict("records")] == checks
