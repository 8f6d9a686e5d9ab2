"""Pictures of test images, of what attacks make of them, and of those that filters keep right."""

from faultline.run.job import job

with job(snakemake):
    from faultline.ablation.facts import Facts
    from faultline.base.files import load_arrays, load_table, save_table
    from faultline.base.paths import gather, place_of
    from faultline.run.loading import judging_images, opened
    from faultline.studies.examples.chosen import examples, lost_images

    params, given = snakemake.params, snakemake.input
    dataset, network, state, _ = opened(snakemake)
    shown = examples(network, dataset, attacks=params.attacks, seed=state["seed"])
    save_table(shown, snakemake.output.examples)

    index = load_arrays(*given.chosen)["index"] if given.chosen else None
    parts = {}
    for path in given.facts:
        found = Facts.from_arrays(load_arrays(path))
        parts.setdefault(place_of(path)["layer"], []).append(found)
    lost = lost_images(
        network,
        lambda: judging_images(dataset, split=params.split, count=params.images, index=index),
        filters=gather(given.filters, load_table),
        facts={layer: Facts.concatenate(of_layer) for layer, of_layer in parts.items()},
        index=index,
        at=params.at,
    )
    save_table(lost, snakemake.output.lost)
