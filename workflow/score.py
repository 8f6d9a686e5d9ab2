"""Scores of the layers, filters and pulse bands of one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import Facts
    from faultline.base.files import load_arrays, save_table
    from faultline.studies.synaptic.scores import band_scores, curves, filter_scores, layer_scores

    given, params, where = snakemake.input, snakemake.params, dict(snakemake.params.where)
    common = {"baseline": params.baseline, "confidence": params.confidence}
    tables = {name: [] for name in ("layers", "filters", "bands", "curves")}

    def add(name, table, **columns):
        for position, (key, value) in enumerate({**where, **columns}.items()):
            table.insert(position, key, value)
        tables[name].append(table)

    def load(paths):
        return Facts.concatenate([Facts.from_arrays(load_arrays(path)) for path in paths])

    sweeps = [
        ("local", layer, path) for layer, path in zip(params.layers, given.local, strict=True)
    ]
    sweeps += [("global", "all layers", path) for path in given.all_layers]
    for scope, layer, path in sweeps:
        facts, columns = load([path]), {"scope": scope, "layer": layer}
        add("layers", layer_scores(facts, integration=params.integration, **common), **columns)
        add("curves", curves(facts, confidence=params.confidence), **columns)
        if scope == "local" and "pulse" in facts.variants["filter"]:
            add("bands", band_scores(facts, **common), layer=layer)
    for layer in dict.fromkeys(params.nodal_layers):
        paths = [p for p, of in zip(given.nodal, params.nodal_layers, strict=True) if of == layer]
        add("filters", filter_scores(load(paths), confidence=params.confidence), layer=layer)

    for name, parts in tables.items():
        table = pd.concat(parts) if parts else pd.DataFrame(columns=[*where, "layer"])
        save_table(table, snakemake.output[name])
