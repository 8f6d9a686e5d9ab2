"""Mending in a script or a notebook: what the rules `mend` and `judge_mends` do, in one call."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from faultline.base import plugins
from faultline.base.errors import UserError
from faultline.base.inputs import check_count, check_number, one_of
from faultline.config.trainings import Training
from faultline.data.splits import DataSet
from faultline.networks.inputs import check_device
from faultline.networks.layers import layers
from faultline.studies.mending.candidates import CANDIDATES, about, name_of
from faultline.studies.mending.config import FAULTS, Mending
from faultline.studies.mending.faults import Faults
from faultline.studies.mending.judging import Outcome, judge_mends
from faultline.studies.mending.mended import mend_by
from faultline.studies.mending.under import Stressed
from faultline.studies.stresses.judged import stress_set

DEFAULTS = Mending()


def mend(
    network: nn.Module,
    data: DataSet,
    *,
    attack: Mapping[str, Any] | None = None,
    stresses: Mapping[str, Mapping[str, Any]] | None = None,
    faults: Faults | None = None,
    clean_loss: float = DEFAULTS.clean_loss,
    candidates: Sequence[str] = tuple(DEFAULTS.candidates),
    epochs: int = DEFAULTS.epochs,
    rates: Sequence[float] = tuple(DEFAULTS.rates),
    shares: Sequence[float] = tuple(DEFAULTS.shares),
    batch_size: int = DEFAULTS.batch_size,
    fragile: Collection[str] | None = None,
    antifragile: Mapping[str, Collection[int]] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Outcome:
    """Other weights of a network that hold under an attack, under stresses, or under faults of the
    weights, chosen on validation images of the data and judged on test images against those that it
    has; the network stays as it is.

    network: any module from images [n, ...] in pixel units to logits [n, classes]. attack: as in a
    config, with method and eps; stresses: in its place name -> settings as in a config, such as
    {"fog": {"kind": "fog", "severities": [1, 3]}}; faults: in place of both, such as
    Faults(["bit_faults_int8"], rate=1e-4, draws=5). clean_loss: the largest loss of clean accuracy,
    a share. candidates and so on: as the keys of the config's section mending; fragile: the layers
    that `picked` trains and `selective` freezes; antifragile: layer -> the filters that `remove`
    takes out. Of the result, `weights` is a state dict of the network, or None where nothing is
    borne out, `result` a table of what was judged, and `note` says it in words.
    UserError for settings that make no sense.
    """
    check_count(epochs, "epochs")
    check_device(network, {"data": data.splits["train"][0]})
    if sum(each is not None for each in (attack, stresses, faults)) != 1:
        raise UserError("mend: give an attack, stresses or faults, one of them")
    if faults is not None:
        for kind in faults.kinds:
            one_of(kind, FAULTS, "mend: faults: kinds")
        check_number(faults.rate, "mend: faults: rate", high=1.0, open=True)
        check_count(faults.draws, "mend: faults: draws")
    of = {"stresses": bool(stresses), "faults": faults is not None}
    if attack is not None and not attack.get("eps"):
        raise UserError("mend: attack: needs an eps above 0; add it")
    for name in candidates:
        if not plugins.is_own(name):
            one_of(name, CANDIDATES, "mend: candidates")
            if not CANDIDATES[name].fits(**of):
                alone = "faults" if CANDIDATES[name].faults else "attacks"
                raise UserError(f"mend: candidates: {name} is against {alone} alone; leave it out")
    for key, names in (("fragile", fragile), ("antifragile", antifragile)):
        for name in names or ():
            one_of(name, layers(network), f"mend: {key}")
    settings = {"norm": "linf", "normalised_units": False, **attack} if attack else {}
    stored = {
        split: {
            name: stress_set(data, name, {"options": {}, **of}, split=split)[0]
            for name, of in (stresses or {}).items()
        }
        for split in ("train", "validation", "test")
    }
    training = Training(epochs=[0]).dump()
    states, paths = {}, {}
    for name in candidates:
        mended = mend_by(
            name,
            copy.deepcopy(network),
            data,
            training=training,
            attack=settings,
            stressed=Stressed(stored["train"], stored["validation"]) if stresses else None,
            faults=faults,
            rates=rates,
            shares=shares,
            batch_size=batch_size,
            epochs=epochs,
            clean_loss=clean_loss,
            fragile=fragile,
            antifragile=antifragile,
            seed=seed,
        )
        states[name_of(name)], paths[name_of(name)] = mended.weights, mended.path
    return judge_mends(
        copy.deepcopy(network),
        data,
        states=states,
        paths=paths,
        abouts={name_of(name): about(name, **of) for name in candidates},
        attacks={settings["method"]: settings} if attack else {},
        stressed=stored["test"] if stresses else None,
        faults=faults,
        under=[*(stresses or ()), *(faults.kinds if faults else ())],
        clean_loss=clean_loss,
        confidence=confidence,
        name=type(network).__name__,
        seed=seed,
    )
