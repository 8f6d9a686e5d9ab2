"""Global synaptic filtering: every layer of one checkpoint at once, over one threshold range."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.columns import place
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base
    from faultline.studies.synaptic import ALL_LAYERS
    from faultline.studies.synaptic.sweeps import filtered

    params = snakemake.params
    facts = filtered(
        opened_base(snakemake),
        ALL_LAYERS,
        place=place(snakemake.wildcards),
        kinds=params.filters,
        count=params.thresholds,
        random_draws=params.random_draws,
        limits=params.limits,
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
