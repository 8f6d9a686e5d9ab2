"""The criteria of a config, applied to one checkpoint: a table of scores and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real

import pandas as pd
import torch
from torch import Tensor, nn

from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.base.seeds import seeded
from faultline.networks.layers import filters
from faultline.networks.plain import copied
from faultline.studies.criteria.data import Data, Score, passes
from faultline.studies.criteria.names import BUILTIN, name_of

COLUMNS = ["criterion", "layer", "filter", "score", "n", "passes"]


def judged(network: nn.Module, data: Data, *, methods: Sequence[str]) -> pd.DataFrame:
    """A row per criterion, layer and filter of it; filter is missing in rows of a whole layer.

    methods: names of BUILTIN, or "file.py:function" of the user's own. Columns: criterion, layer,
    filter (from 0), score (higher: matters more), n (images), passes (images that went through the
    network for this criterion, forwards and back).
    """
    parts = [pd.DataFrame(columns=COLUMNS)]
    for method in methods:
        of = copied(network) if plugins.is_own(method) else network
        compute = partial(_own, method) if plugins.is_own(method) else BUILTIN[method].function
        assert compute  # else other studies say it
        with passes(of) as count:
            scores = compute(of, replace(data, network=of))
        print(f"{name_of(method)}: {count[0]} images through the network")
        rows = [row for name, score in scores.items() for row in _rows(name, score)]
        part = pd.DataFrame(rows, columns=["layer", "filter", "score"])
        columns = {"criterion": name_of(method), "n": len(data.labels), "passes": count[0]}
        parts.append(part.assign(**columns)[COLUMNS])
    parts = [part for part in parts if len(part)] or parts
    return pd.concat(parts, ignore_index=True).astype({"filter": "Int64"})


def _rows(layer: str, score: Score) -> list[tuple]:
    units = [] if score.filters is None else score.filters.tolist()
    return [(layer, None, score.layer), *((layer, i, value) for i, value in enumerate(units))]


def _own(function: str, network: nn.Module, data: Data) -> dict[str, Score]:
    """What a function of the user's own says, checked. It works on a copy of the network, in eval
    mode; torch's random numbers are seeded. Of filters alone, a layer has the sum of its own."""
    criterion = plugins.load(function)
    with plugins.told(function), seeded("own criterion", data.seed), torch.enable_grad():
        scores = criterion(network, data)
    if not isinstance(scores, Mapping) or not scores:
        got = "an empty dict" if scores == {} else f"a {type(scores).__name__}"
        raise UserError(f"{function} returned {got}; expected a dict, layer -> score")
    layers = data.modules(network)
    for name in scores:
        if name not in layers:
            raise UserError(f"{function} scores a layer {name!r}; {nearest(name, layers)}")
    return {name: _checked(function, name, layers[name], score) for name, score in scores.items()}


def _checked(function: str, name: str, layer: nn.Module, score) -> Score:
    units = filters(layer)
    if isinstance(score, Tensor) and score.ndim == 0:
        score = score.item()
    if isinstance(score, Tensor):
        score = Score(score.detach().double().sum().item(), score)
    elif isinstance(score, Real):
        score = Score(float(score))
    whole, of_units = score if isinstance(score, Score) else (None, None)
    shaped = of_units is None or (isinstance(of_units, Tensor) and of_units.shape == (units,))
    if not isinstance(whole, Real) or not shaped:
        got = (
            f"a tensor {list(of_units.shape)}"
            if isinstance(of_units, Tensor)
            else (f"a {type(score).__name__}")
        )
        raise UserError(
            f"{function}, layer {name}: {got} for a score; expected a number, or a tensor "
            f"[{units}] with one for each filter"
        )
    values = torch.tensor([float(whole), *([] if of_units is None else of_units.detach().tolist())])
    if values.isnan().any():
        raise UserError(f"{function}, layer {name}: a score is not a number; return numbers only")
    return Score(float(whole), None if of_units is None else of_units.detach())
