"""One checkpoint with the gains of one policy, judged on test images, clean and attacked anew."""

from faultline.run.job import job

with job(snakemake, kept=True):
    import pandas as pd
    import torch

    from faultline.ablation.facts import counted, pack
    from faultline.attacks.craft import judge
    from faultline.attacks.run import crafters
    from faultline.base.files import load_table, save_arrays, save_table, save_tensors
    from faultline.data.splits import test_images
    from faultline.run.loading import opened
    from faultline.studies.fragile.remedy import remedied

    params, policy = snakemake.params, snakemake.wildcards.policy
    dataset, network, state, _ = opened(snakemake)
    gains = load_table(snakemake.input.gains)
    gains = gains[gains["policy"] == policy]  # none for the policy "none"
    strength = gains["strength"].iloc[0] if len(gains) else 0.0
    of_layers = gains.groupby("layer", sort=False)["gain"]
    network = remedied(network, {layer: torch.tensor([*gain]) for layer, gain in of_layers})

    images, labels = test_images(dataset)
    attacks = crafters(params.attacks, dataset, seed=state["seed"], until_fooled=True)
    correct = judge(network, images, labels, attacks=attacks)
    save_table(pd.DataFrame(counted(correct)).assign(strength=strength), snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
    facts = {"epoch": state["epoch"], "seed": state["seed"]}
    save_tensors({"network": network.state_dict()} | facts, snakemake.output.network)
