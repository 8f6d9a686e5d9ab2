"""One attack on one checkpoint: accuracy over eps, self-checks, the adversarial test set."""

from faultline.job import job, torch_device

with job(snakemake):
    import pandas as pd

    from faultline.attacks import attack_curve, checks
    from faultline.experiment import load_dataset, load_network, test_images
    from faultline.facts import pack
    from faultline.files import save_arrays, save_table, save_tensors
    from faultline.seeds import seed_of

    attack, wildcards = snakemake.params.attack, snakemake.wildcards
    device = torch_device(snakemake)
    dataset = load_dataset(snakemake.input.data, device)
    network, state = load_network(
        snakemake.input.checkpoint, wildcards.network, dataset, device=device
    )
    images, labels = test_images(dataset)
    common = {"attack": attack, "eps": attack["eps"], "bounds": dataset.bounds, "std": dataset.std}

    correct, adversarial = attack_curve(
        network,
        images,
        labels,
        eps_grid=attack["eps_grid"],
        seed=seed_of("attack", wildcards.attack, state["seed"]),
        **common,
    )
    found = checks(network, images, labels, adversarial=adversarial, correct=correct, **common)

    rows = []
    for eps, hits in correct.items():
        rows.append({"eps": eps, "correct": hits.sum(), "n": len(hits), "accuracy": hits.mean()})
        print(f"eps {eps:g}: accuracy {hits.mean():.4f} (n = {len(hits)})")
    for check in found:
        print(f"{check['status']}: {check['check']}: {check['detail']}")
    save_table(pd.DataFrame(rows), snakemake.output.accuracy)
    save_table(pd.DataFrame(found), snakemake.output.checks)
    save_arrays(pack({f"{eps:g}": hits for eps, hits in correct.items()}), snakemake.output.correct)
    save_tensors({"images": adversarial, "eps": attack["eps"]}, snakemake.output.adversarial)
