"""How far each perturber moves what each layer of one checkpoint puts out, image by image."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.base.files import save_arrays
    from faultline.run.loading import opened
    from faultline.studies.sustainability.analysis import analyse_checkpoint

    params = snakemake.params
    dataset, network, state, _ = opened(snakemake)
    errors = analyse_checkpoint(
        network, dataset, attacks=params.attacks, seed=state["seed"], **params.settings
    )
    save_arrays(errors, snakemake.output.errors)
