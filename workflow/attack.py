"""One attack on one checkpoint: accuracy over eps on test images, with self-checks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import pandas as pd

    from faultline.ablation.facts import pack
    from faultline.attacks.run import attacked
    from faultline.base.files import save_arrays, save_table
    from faultline.run.loading import opened

    attack, name = snakemake.params.attack, snakemake.wildcards.attack
    dataset, network, state, _ = opened(snakemake)
    accuracy, checks, correct = attacked(
        network, dataset, attack=attack, name=name, seed=state["seed"]
    )
    save_table(pd.DataFrame(accuracy), snakemake.output.accuracy)
    save_table(pd.DataFrame(checks), snakemake.output.checks)
    by_eps = {f"{eps:g}": hits for eps, hits in correct.items()}
    save_arrays(pack(by_eps), snakemake.output.correct)
