"""Adversarial targeting: how much of each attack arrives at the filters of one checkpoint."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_table
    from faultline.run.loading import judging_images, opened, stored_attacks
    from faultline.studies.fragile.targeting import kernels, targeting

    params = snakemake.params
    dataset, network, state, device = opened(snakemake)
    images, _ = judging_images(dataset, split=params.split, count=params.images)
    attacked = stored_attacks(snakemake, params.attacks, device)
    table = targeting(
        network,
        params.layers,
        images,
        {attack: stored[: params.images] for attack, stored in attacked},
        at=params.at,
        bounds=dataset.bounds,
        seed=state["seed"],
    )
    save_table(table, snakemake.output.targeting)
    save_table(kernels(network, params.layers), snakemake.output.kernels)
