"""Several attacks on one checkpoint together."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from faultline.attacks.run import attacked
from faultline.data.splits import DataSet


class Evaluated(NamedTuple):
    """accuracy, checks: as of `attacked`, behind a column attack; correct: attack/eps -> bool [n]
    of the test split."""

    accuracy: pd.DataFrame
    checks: pd.DataFrame
    correct: dict[str, np.ndarray]


def evaluated(
    network: nn.Module, dataset: DataSet, *, attacks: dict[str, dict], seed: int
) -> Evaluated:
    """Each attack of the config on the test images, over its own eps grid."""
    accuracy, checks = [], []
    correct: dict[str, np.ndarray] = {}
    for name, attack in attacks.items():
        under = attacked(network, dataset, attack=attack, name=name, seed=seed)
        accuracy += [{"attack": name} | row for row in under.accuracy]
        checks += [{"attack": name} | row for row in under.checks]
        correct |= {f"{name}/{eps:g}": hits for eps, hits in under.correct.items()}
    return Evaluated(pd.DataFrame(accuracy), pd.DataFrame(checks), correct)
