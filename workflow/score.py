"""Scores of the layers, filters and pulse bands of one checkpoint, from the facts of its sweeps."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.facts import StoredFacts, load_facts
    from faultline.base.columns import place, put_first
    from faultline.base.files import save_table
    from faultline.studies.synaptic.checkpoint import score_tables

    files, params = snakemake.input, snakemake.params
    tables = score_tables(
        StoredFacts(files.local),
        load_facts(*files.all_layers) if files.all_layers else None,
        StoredFacts(files.nodal),
        baseline=params.baseline,
        integration=params.integration,
        confidence=params.confidence,
    )
    for name, table in tables.items():
        save_table(put_first(table, place(snakemake.wildcards)), snakemake.output[name])
