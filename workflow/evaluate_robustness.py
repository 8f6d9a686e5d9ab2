"""Accuracy of one checkpoint over eps under several attacks, with their self-checks."""

from faultline.job import job, torch_device

with job(snakemake):
    import pandas as pd

    from faultline.experiment import attacked, load_dataset, load_network
    from faultline.facts import pack
    from faultline.files import save_arrays, save_table

    device = torch_device(snakemake)
    dataset = load_dataset(snakemake.input.data, device)
    network, state = load_network(
        snakemake.input.checkpoint, snakemake.wildcards.network, dataset, device=device
    )
    accuracies, checks, correct = [], [], {}
    for name, attack in snakemake.params.attacks.items():
        found = attacked(network, dataset, attack=attack, name=name, seed=state["seed"])
        accuracies += [{"attack": name} | row for row in found.accuracy]
        checks += [{"attack": name} | row for row in found.checks]
        correct |= {f"{name}/{eps:g}": hits for eps, hits in found.correct.items()}
    save_table(pd.DataFrame(accuracies), snakemake.output.accuracy)
    save_table(pd.DataFrame(checks), snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
