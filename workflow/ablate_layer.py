"""Local synaptic filtering: one layer of one checkpoint, over its own range of thresholds."""

from faultline.job import job, torch_device

with job(snakemake):
    from faultline.experiment import ablate
    from faultline.files import save_arrays
    from faultline.filters import synaptic_variants

    layer = snakemake.wildcards.layer
    facts = ablate(
        snakemake,
        torch_device(snakemake),
        layers=[layer],
        make=lambda layers: synaptic_variants(
            layers, kinds=snakemake.params.filters, count=snakemake.params.thresholds
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
