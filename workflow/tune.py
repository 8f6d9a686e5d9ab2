"""The search for a training's settings: every candidate, judged on the validation split."""

from faultline.run.job import job, torch_device

with job(snakemake, kept=True):
    import json
    from pathlib import Path

    from faultline.base.errors import UserError
    from faultline.base.files import save_table, save_text
    from faultline.run.loading import build_network, load_dataset
    from faultline.studies.sustainability.lists import regularised_layers
    from faultline.training.epochs import make_optimizer, train_epochs
    from faultline.training.tuning import applied, candidates, choose, judge
    from faultline.training.unfinished import Unfinished

    params, wildcards = snakemake.params, snakemake.wildcards
    tune, device = params.tune, torch_device(snakemake)
    dataset = load_dataset(snakemake.input.data, device)
    first = {}
    for path in snakemake.input.taken:
        first |= json.loads(Path(path).read_text(encoding="utf-8"))
    tried = candidates(tune["grid"])
    (name, attack), lists = next(iter(params.attack.items())), snakemake.input.errors

    begun_from = [tune, params.epochs, params.settings, params.attack, params.code]
    unfinished = Unfinished(snakemake.output.chosen, begun_from, files=snakemake.input)
    done = []
    if resumed := unfinished.load():
        done = resumed["done"]
        print(f"resuming after {len(done)} of {len(tried) * len(tune['seeds'])} trainings")

    todo = [(candidate, at) for candidate in tried for at in range(len(tune["seeds"]))]
    for candidate, at in todo[len(done) :]:
        seed, settings = tune["seeds"][at], applied(params.settings, first | candidate)
        network = build_network(wildcards.network, dataset, seed=seed, device=device)
        error, accuracies = "", [0.0] * len(attack["eps_grid"])
        try:
            training = train_epochs(
                network,
                make_optimizer(network, settings),
                dataset,
                settings=settings,
                seed=seed,
                epochs=range(params.epochs),
                regularised=regularised_layers(settings, lists[at] if lists else None),
                say=lambda _: None,
            )
            for _ in training:
                pass
            accuracies = judge(network.eval(), dataset, attack=attack, name=name, seed=seed)
        except UserError as failure:  # a candidate that diverges is a bad one, not the end
            error = str(failure)
        eps = {f"eps_{e:g}": a for e, a in zip(attack["eps_grid"], accuracies, strict=True)}
        done.append(candidate | {"seed": seed, "error": error} | eps)
        print(
            f"{len(done)} of {len(todo)}: {candidate}, seed {seed}: "
            + (error or f"R&G {sum(accuracies):.1f}")
        )
        unfinished.save({"done": done})

    table, best = choose(done, tune["grid"], towards=tune["towards"])
    for setting, value in first.items():
        if setting not in table:
            table.insert(0, setting, value)
    save_table(table, snakemake.output.candidates)
    save_text(json.dumps(first | best, sort_keys=True), snakemake.output.chosen)
    unfinished.discard()
    print(f"chosen: {first | best}")
