"""Adversarial images of one attack on one checkpoint, stored for the stages that share them."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.attacks.run import crafters
    from faultline.base.files import save_tensors
    from faultline.run.loading import judging_images, opened

    params, name = snakemake.params, snakemake.wildcards.attack
    dataset, network, state, _ = opened(snakemake)
    images, labels = judging_images(dataset, split=params.split, count=params.images)
    craft = crafters({name: params.attack}, dataset, seed=state["seed"])[name]
    save_tensors({"images": craft(network, images, labels)}, snakemake.output.adversarial)
