"""Accuracy of one checkpoint over eps under several attacks, with their self-checks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.ablation.facts import pack
    from faultline.base.files import save_arrays, save_table
    from faultline.run.loading import opened
    from faultline.studies.robustness.evaluated import evaluated

    dataset, network, state, _ = opened(snakemake)
    accuracy, checks, correct = evaluated(
        network, dataset, attacks=snakemake.params.attacks, seed=state["seed"]
    )
    save_table(accuracy, snakemake.output.accuracy)
    save_table(checks, snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
