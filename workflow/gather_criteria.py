"""What every criterion says of one checkpoint, with what other studies say of validation images."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import load_table, save_table
    from faultline.studies.criteria.earlier import with_earlier

    files, params = snakemake.input, snakemake.params
    names = ("layers", "filters", "perturbed", "probes")
    table = with_earlier(
        load_table(files.judged),
        {name: load_table(path) for name in names for path in files[name]},
        attack=params.attack,
        layers=params.layers,
    )
    save_table(table, snakemake.output.criteria)
