"""What was run, in a sentence."""

from faultline.report import page

MAX_TRAININGS = 6  # named together, else counted


def what_was_run(tables: dict, config: dict) -> str:
    """Networks, data, trainings, seeds, images and attacks of a run."""
    alike = {}  # trainings with the same checkpoints, by what is said of them
    for name, settings in config["trainings"].items():
        said = f"{_given(settings)}checkpoints at epochs {page.listed(settings['epochs'])}"
        alike.setdefault(said, []).append(name)
    trained = "; ".join(
        (f"as {page.listed(names)}" if len(names) <= MAX_TRAININGS else f"in {len(names)} ways")
        + f" ({said})"
        for said, names in alike.items()
    )
    n = page.images(tables["accuracy"])
    ablation, chosen = config["ablation"], page.listed(config["ablation"]["attacks"])
    once = "once on each checkpoint and reused on its ablated networks (transfer)"
    crafted = {
        "base": f"crafted {once}",
        "ablated": "crafted anew on each ablated network",
        "both": f"crafted anew on each ablated network, and {once}",
    }[ablation["target"]]
    seeds, layers = config["seeds"], tables["layers"]
    swept = page.images(layers, ablation["split"])
    judged = n if swept == n or not len(layers) else f"{n} (scores: {swept})"
    return (
        f"{page.count(config['networks'], 'network')} ({page.listed(config['networks'])}) on "
        f"{page.count(config['datasets'], 'data set')} ({page.listed(config['datasets'])}), "
        f"trained {trained}, {page.count(seeds, 'seed')} ({page.listed(seeds)}), "
        f"judged on {judged}. "
        f"Attacks: {page.listed(config['attacks'])}. "
        + (
            f"For the scores, adversarial images of {chosen} were {crafted}."
            if chosen
            else "Ablated networks were judged on clean images only."
        )
    )


def _given(training: dict) -> str:
    given = training.get("weights")
    return f"from given weights of {page.listed(given)}, which all seeds share; " if given else ""
