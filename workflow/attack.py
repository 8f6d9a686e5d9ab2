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
    found = attacked(network, dataset, attack=attack, name=name, seed=state["seed"])
    correct = {f"{eps:g}": hits for eps, hits in found.correct.items()}
    save_table(pd.DataFrame(found.accuracy), snakemake.output.accuracy)
    save_table(pd.DataFrame(found.checks), snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
