"""The most vulnerable layers of one checkpoint, from the relative errors of its probes."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import load_arrays, save_table
    from faultline.studies.sustainability.lists import by_perturber, list_table, probe_table

    params = snakemake.params
    errors = by_perturber(load_arrays(snakemake.input.errors))
    lists = list_table(errors, etas=params.eta_grid)
    for row in lists[lists["eta"] == params.eta].to_dict("records"):
        print(f"{row['perturber']}, eta {row['eta']:g}: {row['mvl']}")
    save_table(
        probe_table(errors, eta=params.eta, confidence=params.confidence), snakemake.output.probes
    )
    save_table(lists, snakemake.output.lists)
