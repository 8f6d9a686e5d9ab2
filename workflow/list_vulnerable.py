"""The most vulnerable layers of one checkpoint, from the relative errors of its probes."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import save_table
    from faultline.studies.sustainability.lists import load_errors, vulnerable

    params = snakemake.params
    probes, lists = vulnerable(
        load_errors(snakemake.input.errors),
        eta=params.eta,
        eta_grid=params.eta_grid,
        confidence=params.confidence,
    )
    save_table(probes, snakemake.output.probes)
    save_table(lists, snakemake.output.lists)
