"""An ablation of the user's own: one layer of one checkpoint."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.plugins import own_variants
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base

    layer, ablation = snakemake.wildcards.layer, snakemake.params.ablation
    facts = opened_base(snakemake).sweep(
        layers=[layer],
        make=lambda layers: own_variants(
            ablation["function"], layer, layers[layer], options=ablation["options"]
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
