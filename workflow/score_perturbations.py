"""What random internal perturbations did to one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import Facts
    from faultline.base.columns import PLACE
    from faultline.base.files import load_arrays, save_table
    from faultline.base.paths import place_of
    from faultline.studies.perturbations.scores import (
        curves,
        depth_test,
        headline,
        layer_losses,
        places,
    )

    given, output, params = snakemake.input, snakemake.output, snakemake.params
    where = places(params.network_layers)
    made = {"curves": [], "layers": [], "headline": []}
    for path in given.facts:
        layer = place_of(path)["layer"]
        facts = Facts.from_arrays(load_arrays(path))
        common = {"chance": facts.chance, "confidence": params.confidence}
        tables = {
            "curves": curves(facts, **common),
            "layers": layer_losses(facts, **common),
            "headline": headline(
                facts, where.loc[layer, "role"], almost_chance=params.almost_chance, **common
            ),
        }
        for name, table in tables.items():
            head = {"layer": layer, "layer_kind": where.loc[layer, "kind"]}
            made[name].append(table.assign(**head, depth=where.loc[layer, "depth"]))
    made = {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}
    made["depth"] = depth_test(made["layers"], ends=params.ends)
    for name, table in made.items():
        front = [c for c in ("layer", "layer_kind", "depth") if c in table]
        table = table[[*front, *(c for c in table if c not in front)]]
        for position, key in enumerate(PLACE):
            table.insert(position, key, snakemake.wildcards[key])
        save_table(table, output[name])
