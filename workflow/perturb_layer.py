"""Random internal perturbations: one layer of one checkpoint, every kind, strength and repeat."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base
    from faultline.studies.perturbations.variants import perturbation_variants

    layer = snakemake.wildcards.layer
    facts = opened_base(snakemake).sweep(
        layers=[layer],
        tops=snakemake.params.tops,
        make=lambda layers: perturbation_variants(
            layer, layers[layer], place=snakemake.params.where, **snakemake.params.perturbations
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
