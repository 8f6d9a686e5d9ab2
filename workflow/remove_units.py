"""One layer of one checkpoint removed whole, and each of its filters: which test images stay
correct, clean and attacked anew."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base
    from faultline.studies.criteria.removal import removal_variants

    layer = snakemake.wildcards.layer
    facts = opened_base(snakemake).sweep(
        layers=[layer],
        make=lambda layers: list(
            removal_variants(layer, layers[layer], most=snakemake.params.most)
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
