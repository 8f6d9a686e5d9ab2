"""Local synaptic filtering: layers of one checkpoint, one by one, each over its own range of
thresholds."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base import pace
    from faultline.base.columns import place
    from faultline.base.files import save_arrays
    from faultline.base.paths import place_of
    from faultline.run.loading import opened_base
    from faultline.studies.synaptic.sweeps import filtered

    base, params = opened_base(snakemake), snakemake.params
    for path in pace.each(snakemake.output.facts):
        facts = filtered(
            base,
            place_of(path)["layer"],
            place=place(snakemake.wildcards),
            kinds=params.filters,
            count=params.thresholds,
            random_draws=params.random_draws,
        )
        save_arrays(facts.arrays(), path)
