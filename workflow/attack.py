"""One attack on one checkpoint: accuracy over eps, self-checks, the adversarial test set."""

from faultline.run.job import job, torch_device

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import pack
    from faultline.attacks.run import attacked
    from faultline.base.files import save_arrays, save_table, save_tensors
    from faultline.run.loading import load_dataset, load_network

    attack, wildcards = snakemake.params.attack, snakemake.wildcards
    device = torch_device(snakemake)
    dataset = load_dataset(snakemake.input.data, device)
    network, state = load_network(
        snakemake.input.checkpoint, wildcards.network, dataset, device=device
    )
    found = attacked(network, dataset, attack=attack, name=wildcards.attack, seed=state["seed"])
    correct = {f"{eps:g}": hits for eps, hits in found.correct.items()}
    save_table(pd.DataFrame(found.accuracy), snakemake.output.accuracy)
    save_table(pd.DataFrame(found.checks), snakemake.output.checks)
    save_arrays(pack(correct), snakemake.output.correct)
    save_tensors({"images": found.images, "eps": attack["eps"]}, snakemake.output.adversarial)
