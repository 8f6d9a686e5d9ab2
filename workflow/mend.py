"""One checkpoint mended by one candidate: its way, and the weights that validation images keep."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import load_table, save_table, save_tensors
    from faultline.run.loading import load_stresses, opened
    from faultline.studies.mending.faults import Faults
    from faultline.studies.mending.mended import antifragile_filters, fragile_layers, mend_by
    from faultline.studies.mending.under import Stressed

    files, params, output = snakemake.input, snakemake.params, snakemake.output
    dataset, network, state, device = opened(snakemake)
    stored = load_stresses(files.stressed, params.stresses, device)
    path, weights = mend_by(
        params.candidate,
        network,
        dataset,
        **params.settings,
        training=params.training,
        attack=params.attack,
        stressed=Stressed(*stored) if stored else None,
        faults=Faults(**params.faults) if params.faults else None,
        fragile=fragile_layers(load_table(*files.layers), **params.choice)
        if files.layers
        else None,
        antifragile=antifragile_filters(load_table(*files.filters), **params.choice)
        if files.filters
        else None,
        seed=state["seed"],
    )
    save_table(path, output.path)
    facts = {"epoch": state["epoch"], "seed": state["seed"]}
    save_tensors({"network": weights} | facts, output.network)
