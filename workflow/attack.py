"""One attack on one checkpoint: accuracy over eps, self-checks, the adversarial test set."""

from faultline.job import job, torch_device

with job(snakemake):
    import pandas as pd

    from faultline.experiment import attacked, load_dataset, load_network
    from faultline.facts import pack
    from faultline.files import save_arrays, save_table, save_tensors

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
