"""Local synaptic filtering: layers of one checkpoint, one by one, each over its own range of
thresholds."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.variants import random_variants, synaptic_variants
    from faultline.base.columns import PLACE
    from faultline.base.files import save_arrays
    from faultline.base.paths import place_of
    from faultline.base.seeds import seed_of
    from faultline.run.loading import opened_base

    base = opened_base(snakemake)
    for path in snakemake.output.facts:
        layer = place_of(path)["layer"]
        seed = seed_of(*(snakemake.wildcards[key] for key in PLACE), layer)
        facts = base.sweep(
            layers=[layer],
            make=lambda layers, seed=seed: [
                *synaptic_variants(
                    layers, kinds=snakemake.params.filters, count=snakemake.params.thresholds
                ),
                *random_variants(layers, draws=snakemake.params.random_draws, seed=seed),
            ],
        )
        save_arrays(facts.arrays(), path)
