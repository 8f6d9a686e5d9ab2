"""One file with the train, validation and test split of a data set."""

from faultline.job import job

with job(snakemake):
    from faultline.data import prepare
    from faultline.files import save_tensors

    dataset = prepare(
        name=snakemake.wildcards.dataset, threads=snakemake.threads, **snakemake.params.settings
    )
    for split, (_, labels) in dataset.splits.items():
        print(f"{split}: {len(labels)} samples")
    save_tensors(dataset.to_tensors(), snakemake.output.data)
