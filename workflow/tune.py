"""The search for a training's settings: every candidate, judged on the validation split."""

from faultline.job import job, torch_device

with job(snakemake):
    import hashlib
    import json
    from pathlib import Path

    import pandas as pd

    from faultline.errors import UserError
    from faultline.experiment import build_network, load_dataset, regularised_layers
    from faultline.files import save_table, save_text
    from faultline.training import make_optimizer, train_epochs
    from faultline.tuning import applied, candidates, judge, loss_of

    params, wildcards = snakemake.params, snakemake.wildcards
    tune, device = params.tune, torch_device(snakemake)
    dataset = load_dataset(snakemake.input.data, device)
    first = {}
    for path in snakemake.input.taken:
        first |= json.loads(Path(path).read_text(encoding="utf-8"))
    tried = candidates(tune["grid"])

    # An interrupted search goes on from its last candidate, if it began from the same things.
    identity = hashlib.sha256(f"{tune} {params.settings} {params.attack} {params.code}".encode())
    for path in snakemake.input:
        identity.update(Path(path).read_bytes())
    partial = Path(f"{snakemake.output.chosen}.partial")
    done = []
    if partial.exists():
        state = json.loads(partial.read_text(encoding="utf-8"))
        if state["identity"] == identity.hexdigest():
            done = state["done"]
            print(f"resuming after {len(done)} of {len(tried) * len(tune['seeds'])} trainings")

    names = [f"eps_{eps:g}" for eps in params.attack["eps_grid"]]
    todo = [(candidate, seed) for candidate in tried for seed in tune["seeds"]]
    for number, (candidate, seed) in enumerate(todo[len(done) :], len(done) + 1):
        settings = applied(params.settings, first | candidate)
        network = build_network(wildcards.network, dataset, seed=seed, device=device)
        lists = dict(zip(tune["seeds"], snakemake.input.errors, strict=False))
        try:
            layers = regularised_layers(settings, lists.get(seed))
            training = train_epochs(
                network,
                make_optimizer(network, settings),
                dataset,
                settings=settings,
                seed=seed,
                epochs=range(params.epochs),
                regularised=layers,
                say=lambda _: None,
            )
            for _ in training:
                pass
            found = judge(
                network.eval(), dataset, attack=params.attack, name=tune["attack"], seed=seed
            )
        except UserError as error:  # a candidate that diverges is a bad one, not the end
            print(f"{candidate}: {error}")
            found = [0.0] * len(names)
        done.append(candidate | {"seed": seed} | dict(zip(names, found, strict=True)))
        print(f"{number} of {len(todo)}: {candidate}, seed {seed}: R&G {sum(found):.1f}")
        save_text(json.dumps({"identity": identity.hexdigest(), "done": done}), partial)

    table = pd.DataFrame(done)
    table["rg_score"] = table[names].sum(axis=1)
    losses = []
    for candidate in tried:
        same = pd.Series(True, index=table.index)
        for name, value in candidate.items():
            same &= table[name] == value
        losses.append(loss_of(table.loc[same, names].mean().to_numpy(), tune["towards"]))
        table.loc[same, "loss"] = losses[-1]
    best = tried[losses.index(min(losses))]
    table["chosen"] = table["loss"] == min(losses)
    for name, value in first.items():
        if name not in table:
            table.insert(0, name, value)
    save_table(table, snakemake.output.candidates)
    save_text(json.dumps(first | best, sort_keys=True), snakemake.output.chosen)
    partial.unlink(missing_ok=True)
    print(f"chosen: {first | best}")
