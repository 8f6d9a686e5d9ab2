"""An ablation of the user's own: one layer of one checkpoint."""

from faultline.job import job, torch_device

with job(snakemake):
    from faultline.experiment import ablate
    from faultline.files import save_arrays
    from faultline.own_ablations import own_variants

    layer, ablation = snakemake.wildcards.layer, snakemake.params.ablation
    facts = ablate(
        snakemake,
        torch_device(snakemake),
        layers=[layer],
        make=lambda layers: own_variants(
            ablation["function"], layer, layers[layer], options=ablation["options"]
        ),
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
