"""How far each perturber moves what each layer of one checkpoint puts out, image by image."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened
    from faultline.studies.sustainability.analysis import analyse, perturbers

    params = snakemake.params
    settings = params.settings
    dataset, network, state, _ = opened(snakemake)
    # a split is in a stratified order, so its first images are a fair sample of it
    images, labels = (part[: settings["images"]] for part in dataset.splits[settings["split"]])
    errors = analyse(
        network,
        images,
        labels,
        pixels=dataset.pixels,
        perturbers=perturbers(params.attacks, settings["noises"], dataset, seed=state["seed"]),
        at=settings["at"],
    )
    arrays = {
        f"{perturber}/{probe}": values
        for perturber, by_probe in errors.items()
        for probe, values in by_probe.items()
    }
    save_arrays(arrays, snakemake.output.errors)
