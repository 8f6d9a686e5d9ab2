"""The tables that one study gives to the report, over the whole run."""

from faultline.run.job import job

with job(snakemake):
    from importlib import import_module

    from faultline.base.files import save_table

    params = snakemake.params
    study = import_module(f"faultline.studies.{params.study}.tables")
    for name, table in study.tables(snakemake.input, **params.settings).items():
        save_table(table, snakemake.output[name])
