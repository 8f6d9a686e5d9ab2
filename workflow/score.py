"""Scores of the layers, filters and pulse bands of one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import Facts
    from faultline.base.columns import PLACE
    from faultline.base.files import load_arrays, save_table
    from faultline.run.paths import place_of
    from faultline.studies.synaptic.scores import band_scores, curves, filter_scores, layer_scores

    given, params = snakemake.input, snakemake.params
    where = {key: snakemake.wildcards[key] for key in PLACE}
    common = {"baseline": params.baseline, "confidence": params.confidence}
    tables = {name: [] for name in ("layers", "filters", "bands", "curves")}

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
        add("layers", layer_scores(facts, integration=params.integration, **common), **columns)
        add("curves", curves(facts, confidence=params.confidence), **columns)
        if scope == "local" and "pulse" in facts.variants["filter"]:
            add("bands", band_scores(facts, **common), layer=layer)
    nodal = {}
    for path in given.nodal:
        nodal.setdefault(place_of(path)["layer"], []).append(path)
    for layer, paths in nodal.items():
        add("filters", filter_scores(load(paths), confidence=params.confidence), layer=layer)

    for name, parts in tables.items():
        table = pd.concat(parts) if parts else pd.DataFrame(columns=[*where, "layer"])
        save_table(table, snakemake.output[name])
