"""Accuracy of one checkpoint over eps under several attacks, with their self-checks."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import pandas as pd

    from faultline.ablation.facts import pack
    from faultline.attacks.run import attacked
    from faultline.base.files import save_arrays, save_table
    from faultline.run.loading import opened

    dataset, network, state, _ = opened(snakemake)
    accuracies, checks, correct = [], [], {}
    for name, attack in snakemake.params.attacks.items():
        found = attacked(network, dataset, attack=attack, name=name, seed=state["seed"])
        accuracies += [{"attack": name} | row for row in found.accuracy]
        checks += [{"attack": name} | row for row in found.checks]
        correct |= {f"{name}/{eps:g}": hits for eps, hits in found.correct.items()}
    save_table(pd.DataFrame(accuracies), snakemake.output.accuracy)
    save_table(pd.DataFrame(checks), snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
