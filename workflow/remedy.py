"""One checkpoint with the gains of one policy, judged on test images, clean and attacked anew."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import counted, pack
    from faultline.attacks.craft import judge
    from faultline.attacks.run import crafters
    from faultline.base.files import load_table, save_arrays, save_table, save_tensors
    from faultline.data.splits import test_images
    from faultline.run.loading import opened
    from faultline.studies.fragile.remedy import remedied, table_gains

    params, wildcards = snakemake.params, snakemake.wildcards
    policy, _, draw = wildcards.policy.partition("-")
    dataset, network, state, _ = opened(snakemake)
    table = load_table(snakemake.input.gains)
    strength = 0.0 if policy == "none" else float(table["strength"].iloc[0])
    gains = table_gains(
        table, strength=strength, seed=state["seed"], draw=int(draw) if draw else None
    )
    network = remedied(network, gains)

    images, labels = test_images(dataset)
    attacks = crafters(params.attacks, dataset, seed=state["seed"])
    correct = judge(network, images, labels, attacks=attacks)
    save_table(pd.DataFrame(counted(correct)).assign(strength=strength), snakemake.output.result)
    save_arrays(pack(correct), snakemake.output.correct)
    facts = {"epoch": state["epoch"], "seed": state["seed"]}
    save_tensors({"network": network.state_dict()} | facts, snakemake.output.network)
