"""Nodal dropout: some filters of one layer of one checkpoint, removed one at a time."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base
    from faultline.studies.synaptic.sweeps import dropped

    wildcards = snakemake.wildcards
    facts = dropped(
        opened_base(snakemake),
        wildcards.layer,
        range(int(wildcards.first), int(wildcards.last) + 1),
        at=snakemake.params.at,
    )
    save_arrays(facts.arrays(), snakemake.output.facts)
