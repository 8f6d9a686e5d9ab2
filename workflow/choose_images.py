"""The images that all ablated networks of one checkpoint are judged on, chosen by its margins."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.run import chosen_images
    from faultline.base.columns import PLACE
    from faultline.base.files import save_arrays
    from faultline.base.seeds import seed_of
    from faultline.run.loading import opened_base

    seed = seed_of("judging images", *(snakemake.wildcards[key] for key in PLACE))
    base, count = opened_base(snakemake, whole=True), snakemake.params.sets["images"]
    save_arrays(chosen_images(base, count, seed=seed), snakemake.output.chosen)
