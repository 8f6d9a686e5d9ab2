"""The images that all ablated networks of one checkpoint are judged on, chosen by its margins."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.run import chosen_images
    from faultline.base.files import save_arrays

    save_arrays(chosen_images(snakemake), snakemake.output.chosen)
