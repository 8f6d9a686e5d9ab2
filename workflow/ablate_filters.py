"""Nodal dropout: some filters of one layer of one checkpoint, removed one at a time."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.variants import nodal_variants
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base

    first, last = int(snakemake.wildcards.first), int(snakemake.wildcards.last)
    layer = snakemake.wildcards.layer
    facts = opened_base(snakemake).sweep(
        layers=[layer],
        make=lambda layers: list(
            nodal_variants(
                layer, layers[layer], filters=range(first, last + 1), at=snakemake.params.at
            )
        ),
        active_at=snakemake.params.at,
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
