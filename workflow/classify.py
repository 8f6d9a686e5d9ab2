"""Fragile, robust or antifragile: the classes of one checkpoint's layers, filters or bands."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import load_table, save_table
    from faultline.studies.synaptic.classes import classify_units

    scores = load_table(snakemake.input.scores)
    classes = classify_units(scores, snakemake.wildcards.unit, tau=snakemake.params.tau)
    save_table(classes, snakemake.output.classes)
