"""One attack on one checkpoint: accuracy over eps, self-checks, the adversarial test set."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import pack
    from faultline.attacks.run import attacked
    from faultline.base.files import save_arrays, save_table, save_tensors
    from faultline.run.loading import opened

    attack, wildcards = snakemake.params.attack, snakemake.wildcards
    dataset, network, state, _ = opened(snakemake)
    found = attacked(network, dataset, attack=attack, name=wildcards.attack, seed=state["seed"])
    correct = {f"{eps:g}": hits for eps, hits in found.correct.items()}
    save_table(pd.DataFrame(found.accuracy), snakemake.output.accuracy)
    save_table(pd.DataFrame(found.checks), snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
    save_tensors({"images": found.images, "eps": attack["eps"]}, snakemake.output.adversarial)
