"""The report."""

from faultline.job import job

with job(snakemake):
    from faultline.files import save_text

    save_text("todo", snakemake.output.html)
    save_text("todo", snakemake.output.config)
