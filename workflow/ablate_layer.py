"""Local synaptic filtering: one layer of one checkpoint, over its own range of thresholds."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.run import ablate
    from faultline.ablation.variants import synaptic_variants
    from faultline.base.files import save_arrays

    layer = snakemake.wildcards.layer
    facts = ablate(
        snakemake,
        layers=[layer],
        make=lambda layers: synaptic_variants(
            layers, kinds=snakemake.params.filters, count=snakemake.params.thresholds
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
