"""Global synaptic filtering: every layer of one checkpoint at once, over one threshold range."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.run import ablate
    from faultline.ablation.variants import synaptic_variants
    from faultline.base.files import save_arrays

    facts = ablate(
        snakemake,
        layers=None,
        make=lambda layers: synaptic_variants(
            layers,
            kinds=snakemake.params.filters,
            count=snakemake.params.thresholds,
            limits=snakemake.params.limits,
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
