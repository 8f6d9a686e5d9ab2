"""What every criterion says of the layers and filters of one checkpoint, from validation images."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from functools import partial

    from faultline.base.columns import place
    from faultline.base.files import save_table
    from faultline.run.loading import build_network, opened, starting_network
    from faultline.studies.criteria.checkpoint import judge_checkpoint

    params, wildcards = snakemake.params, snakemake.wildcards
    dataset, network, state, device = opened(snakemake)
    own = {"seed": state["seed"], "device": device}
    table = judge_checkpoint(
        network,
        dataset,
        seed=state["seed"],
        place=place(wildcards),
        methods=params.methods,
        layers=params.layers,
        attack=params.attack,
        images=params.images,
        draws=params.draws,
        build=partial(build_network, wildcards.network, dataset, device=device),
        initial=partial(starting_network, snakemake, dataset, **own),
    )
    save_table(table, snakemake.output.judged)
