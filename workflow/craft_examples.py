"""Pictures of test images, of what attacks make of them, and of those that filters keep right."""

from faultline.run.job import job

with job(snakemake):
    from functools import partial

    from faultline.ablation.facts import StoredFacts
    from faultline.base.files import load_arrays, save_table
    from faultline.base.paths import gather
    from faultline.run.loading import judging_images, opened
    from faultline.studies.examples.chosen import examples, lost_images

    files, params = snakemake.input, snakemake.params
    dataset, network, state, _ = opened(snakemake)
    shown = examples(network, dataset, attacks=params.attacks, seed=state["seed"])
    save_table(shown, snakemake.output.examples)

    index = load_arrays(*files.chosen)["index"] if files.chosen else None
    judging = {"split": params.split, "count": params.images, "index": index}
    lost = lost_images(
        network,
        partial(judging_images, dataset, **judging),
        filters=gather(files.filters),
        facts=StoredFacts(files.facts),
        index=index,
        at=params.at,
    )
    save_table(lost, snakemake.output.lost)
