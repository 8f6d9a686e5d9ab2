"""What every criterion says of one checkpoint, with what other studies say of validation images."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.base.files import load_table, save_table
    from faultline.studies.criteria.earlier import earlier

    given, params = snakemake.input, snakemake.params
    names = ("layers", "filters", "perturbed", "probes")
    tables = {name: load_table(path) for name in names for path in given[name]}
    others = earlier(tables, attack=params.attack)
    parts = [load_table(given.judged), others[others["layer"].isin(params.layers)]]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    save_table(table.astype({"filter": "Int64", "passes": "Int64"}), snakemake.output.criteria)
