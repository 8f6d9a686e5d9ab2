"""What other tools are fed from: which layer takes how many bits, and how sure that is."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from faultline.ablation.compression import Form


def precision(
    written: Mapping[str, Form],
    together: pd.DataFrame,
    *,
    scales: str,
    loss: float,
    confidence: float,
) -> str:
    """JSON: bits (layer -> bits of its weights, symmetric), inputs (layer -> bits of what goes into
    it) and pruned (layer -> share of its weights, the smallest, that are 0), all empty where no
    network was judged to be safe; scales, loss, confidence: settings; judged: what test images say
    of this network."""
    rows = together[together["written"]]
    judged: dict[str, Any] = {}
    if len(rows):
        row = rows.iloc[0]
        judged = {
            "accuracy": round(float(row["accuracy"]), 6),
            "of_the_network_as_it_is": round(float(row["base_accuracy"]), 6),
            "difference": [
                round(float(row[k]), 6) for k in ("difference", "family_low", "family_high")
            ],
            "test_images": int(row["n"]),
        }
    content = {
        "bits": {name: form.bits for name, form in written.items() if form.bits},
        "inputs": {name: form.bits for name, form in written.items() if form.inputs},
        "pruned": {name: form.share for name, form in written.items() if form.share},
        "scales": scales,
        "loss": loss,
        "confidence": confidence,
        "judged": judged,
    }
    return json.dumps(content, indent=2) + "\n"
