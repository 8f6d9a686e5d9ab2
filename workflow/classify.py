"""Fragile, robust or antifragile: the classes of one checkpoint's layers, filters or bands."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import load_table, save_table
    from faultline.studies.synaptic.classes import classify

    # Compared with one another, and so corrected for together, are:
    family = {
        "layers": ["scope", "filter", "attack", "score"],  # the layers of a network
        "filters": ["layer", "attack", "score"],  # the filters of a layer
        "bands": ["layer", "attack", "score"],  # the bands of a layer
    }[snakemake.wildcards.unit]
    scores = load_table(snakemake.input.scores)
    if len(scores):
        scores = classify(scores, tau=snakemake.params.tau, by=family)
    save_table(scores, snakemake.output.classes)
