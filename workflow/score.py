"""Scores of the layers, filters and pulse bands of one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import Facts
    from faultline.base.columns import PLACE
    from faultline.base.files import load_arrays, save_table
    from faultline.base.paths import place_of
    from faultline.studies.synaptic import TABLES
    from faultline.studies.synaptic.scores import (
        BASELINES,
        RANDOM,
        band_scores,
        base_accuracy,
        curves,
        filter_scores,
        layer_scores,
    )

    given, params = snakemake.input, snakemake.params
    where = {key: snakemake.wildcards[key] for key in PLACE}
    common = {"baseline": params.baseline, "confidence": params.confidence}
    tables = {name: [] for name in TABLES if name != "invariance"}

    def add(name, table, **columns):
        for position, (key, value) in enumerate({**where, **columns}.items()):
            table.insert(position, key, value)
        tables[name].append(table)

    def load(paths):
        return Facts.concatenate([Facts.from_arrays(load_arrays(path)) for path in paths])

    sweeps = [("local", place_of(path)["layer"], path) for path in given.local]
    sweeps += [("global", "all layers", path) for path in given.all_layers]
    for scope, layer, path in sweeps:
        facts, columns = load([path]), {"scope": scope, "layer": layer}
        compared = len(given.local) if scope == "local" else 1
        found = {
            baseline: layer_scores(
                facts,
                baseline=baseline,
                integration=params.integration,
                confidence=params.confidence,
                compared=compared,
            )
            for baseline in BASELINES
            if baseline != RANDOM or RANDOM in facts.variants["filter"]
        }
        add("layers", found[params.baseline].copy(), **columns)
        for baseline, table in found.items():
            table = table[table["filter"] == "combined"].assign(baseline=baseline)
            add("baselines", table, **columns)
        add("curves", curves(facts, confidence=params.confidence), **columns)
        if scope == "local" and "pulse" in facts.variants["filter"]:
            add("bands", band_scores(facts, **common), layer=layer)
    nodal = {}
    for path in given.nodal:
        nodal.setdefault(place_of(path)["layer"], []).append(path)
    for layer, paths in nodal.items():
        add("filters", filter_scores(load(paths), confidence=params.confidence), layer=layer)

    first = [*given.local, *given.all_layers, *given.nodal][:1]
    add("base", base_accuracy(load(first), confidence=params.confidence))

    for name, parts in tables.items():
        table = pd.concat(parts) if parts else pd.DataFrame(columns=[*where, "layer"])
        save_table(table, snakemake.output[name])
