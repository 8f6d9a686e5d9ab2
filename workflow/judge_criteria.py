"""What every criterion says of the layers and filters of one checkpoint, from validation images."""

from faultline.run.job import job

with job(snakemake, kept=True):
    from faultline.attacks.run import crafters
    from faultline.base.columns import PLACE
    from faultline.base.files import load_state_dict, save_table
    from faultline.base.seeds import seed_of
    from faultline.data.splits import images_of
    from faultline.networks.weights import load_weights
    from faultline.run.loading import build_network, opened
    from faultline.studies.criteria.data import Data
    from faultline.studies.criteria.judge import judged

    given, params, wildcards = snakemake.input, snakemake.params, snakemake.wildcards
    dataset, network, state, device = opened(snakemake)
    images, labels = images_of(dataset, "validation", params.images)
    ((name, attack),) = params.attack.items()

    def built(seed):
        return build_network(wildcards.network, dataset, seed=seed, device=device)

    def initial():
        made = built(state["seed"])
        for path in given.weights:
            load_weights(
                made,
                load_state_dict(path, params.weights_key),
                origin=f"{path}, for {wildcards.network}",
                moments_key=dataset.moments_key,
            )
        return made

    seed = seed_of("criteria", *(wildcards[key] for key in PLACE))
    data = Data(
        network=network,
        images=images,
        labels=labels,
        layers=params.layers,
        attack=attack,
        bounds=dataset.bounds,
        craft=crafters(params.attack, dataset, seed=state["seed"])[name],
        initial=initial,
        redrawn=lambda: (built(seed_of("redrawn", seed, draw)) for draw in range(params.draws)),
        seed=seed,
    )
    save_table(judged(network, data, methods=params.methods), snakemake.output.judged)
