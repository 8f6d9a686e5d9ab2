"""The gains of the remedy and of its control on one checkpoint, chosen on the validation split."""

from faultline.run.job import free_memory, job

with job(snakemake, kept=True):
    import pandas as pd

    from faultline.attacks.run import crafters
    from faultline.base.files import save_table
    from faultline.run.loading import opened
    from faultline.studies.fragile.remedy import (
        feature_energy,
        nodal_fragility,
        try_strengths,
        tuned_gains,
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
    filters = pd.concat(tables, ignore_index=True)

    tried = try_strengths(
        network,
        filters,
        images,
        labels,
        policies=params.policies,
        strengths=params.strengths,
        attacks=crafters(params.attacks, dataset, seed=state["seed"], until_fooled=True),
        seed=state["seed"],
    )
    gains = tuned_gains(filters, tried, strengths=params.strengths, seed=state["seed"])
    chosen = gains.groupby("policy")["strength"].first()
    for policy in params.policies:
        print(f"{policy}: strength {chosen[policy]:g} of {len(labels)} validation images")
    save_table(gains.assign(n=len(labels)), snakemake.output.gains)
    tried["chosen"] = tried["strength"] == tried["policy"].map(chosen)
    save_table(tried, snakemake.output.strengths)
