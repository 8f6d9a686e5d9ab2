"""The tables that one study gives to the report, over the whole run."""

from faultline.run.job import job

with job(snakemake):
    from importlib import import_module

    from faultline.base.files import save_table

    params = snakemake.params
    study = import_module(f"faultline.studies.{params.study}.tables")
    tables = study.tables(**dict(snakemake.input.items()), **params.settings)
    for name, path in snakemake.output.items():
        save_table(tables[name], path)
