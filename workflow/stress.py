"""The images of a split of a data set under one stress, at each of its severities."""

from faultline.run.job import job

with job(snakemake):
    import torch

    from faultline.base.files import save_table, save_tensors
    from faultline.run.loading import load_dataset
    from faultline.studies.stresses.judged import stress_set

    torch.set_num_threads(snakemake.threads)
    dataset = load_dataset(snakemake.input.data, torch.device("cpu"))
    name, split = snakemake.wildcards.stress, snakemake.wildcards.split
    made, about = stress_set(dataset, name, snakemake.params.settings, split=split)
    save_tensors(made, snakemake.output.images)
    save_table(about, snakemake.output.about)
