"""The gains of the remedy and of its control on one checkpoint, chosen on the validation split."""

from faultline.run.job import free_memory, job

with job(snakemake, kept=True):
    from functools import partial

    from faultline.base.files import save_table
    from faultline.run.loading import opened
    from faultline.studies.fragile.mending import choose_gains

    params = snakemake.params
    dataset, network, state, device = opened(snakemake)
    gains, strengths = choose_gains(
        network,
        dataset,
        layers=params.layers,
        policies=params.policies,
        strengths=params.strengths,
        attacks=params.attacks,
        at=params.at,
        seed=state["seed"],
        memory=partial(free_memory, snakemake, device),
    )
    save_table(gains, snakemake.output.gains)
    save_table(strengths, snakemake.output.strengths)
