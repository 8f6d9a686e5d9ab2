"""What random internal perturbations did to one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.facts import StoredFacts
    from faultline.base.columns import place, put_first
    from faultline.base.files import save_table
    from faultline.studies.perturbations.scores import score_tables

    params = snakemake.params
    tables = score_tables(
        StoredFacts(snakemake.input.facts),
        params.network_layers,
        confidence=params.confidence,
        almost_chance=params.almost_chance,
        ends=params.ends,
    )
    for name, table in tables.items():
        save_table(put_first(table, place(snakemake.wildcards)), snakemake.output[name])
