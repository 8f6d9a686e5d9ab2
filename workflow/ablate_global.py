"""Global synaptic filtering: every layer of one checkpoint at once, over one threshold range."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.variants import random_variants, synaptic_variants
    from faultline.base.columns import PLACE
    from faultline.base.files import save_arrays
    from faultline.base.seeds import seed_of
    from faultline.run.loading import opened_base

    seed = seed_of(*(snakemake.wildcards[key] for key in PLACE), "all layers")
    facts = opened_base(snakemake).sweep(
        layers=None,
        make=lambda layers: [
            *synaptic_variants(
                layers,
                kinds=snakemake.params.filters,
                count=snakemake.params.thresholds,
                limits=snakemake.params.limits,
                together=True,
            ),
            *random_variants(layers, draws=snakemake.params.random_draws, seed=seed, together=True),
        ],
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
