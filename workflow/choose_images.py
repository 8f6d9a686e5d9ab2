"""The images that all ablated networks of one checkpoint are judged on, chosen by its margins."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.run import chosen_images
    from faultline.base.columns import place
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened_base

    base = opened_base(snakemake, whole=True)
    count = snakemake.params.sets["images"]
    chosen = chosen_images(base, count, place=place(snakemake.wildcards))
    save_arrays(chosen, snakemake.output.chosen)
