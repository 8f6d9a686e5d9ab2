"""Adversarial targeting: how much of each attack arrives at the filters of one checkpoint."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_table
    from faultline.run.loading import adversarial_images, judging_images, opened
    from faultline.studies.fragile.targeting import kernels, targeting

    params, given = snakemake.params, snakemake.input
    dataset, network, state, device = opened(snakemake)
    adversarial = {
        attack: adversarial_images(path, device)[: params.images]
        for attack, path in zip(params.attacks, given.adversarial, strict=True)
    }
    images, _ = judging_images(dataset, split=params.split, count=params.images)
    table = targeting(
        network,
        params.layers,
        images,
        adversarial,
        at=params.at,
        bounds=dataset.bounds,
        seed=state["seed"],
    )
    save_table(table, snakemake.output.targeting)
    save_table(kernels(network, params.layers), snakemake.output.kernels)
