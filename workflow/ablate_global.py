"""Global synaptic filtering: every layer of one checkpoint at once, over one threshold range."""

from faultline.job import job, torch_device

with job(snakemake):
    from faultline.experiment import ablate
    from faultline.files import save_arrays
    from faultline.filters import synaptic_variants

    facts = ablate(
        snakemake,
        torch_device(snakemake),
        layers=None,
        make=lambda layers: synaptic_variants(
            layers,
            kinds=snakemake.params.filters,
            count=snakemake.params.thresholds,
            limits=snakemake.params.limits,
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
