"""One file with the train, validation and test split of a data set."""

from faultline.run.job import job

with job(snakemake):
    from faultline.base.files import save_tensors
    from faultline.data.splits import prepare

    dataset = prepare(
        name=snakemake.wildcards.dataset, threads=snakemake.threads, **snakemake.params.settings
    )
    for split, (_, labels) in dataset.splits.items():
        print(f"{split}: {len(labels)} samples")
    save_tensors(dataset.to_tensors(), snakemake.output.data)
