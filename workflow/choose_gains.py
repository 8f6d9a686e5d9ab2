"""The gains of the remedy of one checkpoint: fragility and strength from the validation split."""

from faultline.run.job import free_memory, job

with job(snakemake):
    import pandas as pd

    from faultline.attacks.run import crafters
    from faultline.base.files import save_table
    from faultline.run.loading import opened
    from faultline.studies.fragile.remedy import (
        best_strength,
        feature_energy,
        nodal_fragility,
        table_gains,
        try_strengths,
    )

    params = snakemake.params
    dataset, network, state, device = opened(snakemake)
    images, labels = dataset.splits["validation"]
    images, memory = dataset.pixels(images), free_memory(snakemake, device)
    energy = feature_energy(
        network, params.layers, dataset.splits["train"][0], pixels=dataset.pixels
    )
    tables = []
    for layer in params.layers:
        lost = nodal_fragility(network, layer, images, labels, at=params.at, memory=memory)
        columns = {"filter": range(len(lost)), "fragility": lost, "energy": energy[layer]}
        tables.append(pd.DataFrame({"layer": layer} | columns))
    gains = pd.concat(tables, ignore_index=True)

    attacks = crafters(params.attacks, dataset, seed=state["seed"])
    tried = try_strengths(
        network, gains, images, labels, strengths=params.strengths, attacks=attacks
    )
    strength = best_strength(tried, params.strengths)
    gains["gain"] = [
        gain for of in table_gains(gains, strength=strength).values() for gain in of.tolist()
    ]
    print(f"strength {strength:g} chosen on {len(labels)} validation images")
    save_table(gains.assign(strength=strength, n=len(labels)), snakemake.output.gains)
    save_table(tried.assign(chosen=tried["strength"] == strength), snakemake.output.strengths)
