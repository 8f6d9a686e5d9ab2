"""Adversarial targeting: how much of each attack arrives at the filters of one checkpoint."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import load_tensors, save_table
    from faultline.data.splits import test_images
    from faultline.run.loading import opened
    from faultline.studies.fragile.targeting import kernels, targeting

    params, given = snakemake.params, snakemake.input
    dataset, network, state, device = opened(snakemake)
    adversarial = {
        attack: load_tensors(path, "adversarial test images", device=device)["images"]
        for attack, path in zip(params.attacks, given.adversarial, strict=True)
    }
    table = targeting(
        network,
        params.layers,
        test_images(dataset)[0][: params.images],
        {attack: images[: params.images] for attack, images in adversarial.items()},
        at=params.at,
        bounds=dataset.bounds,
        seed=state["seed"],
    )
    save_table(table, snakemake.output.targeting)
    save_table(kernels(network, params.layers), snakemake.output.kernels)
