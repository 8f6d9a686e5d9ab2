"""What of the data must be known before any number is read, in words. No torch."""

from faultline.base.errors import some
from faultline.config.trainings import is_for
from faultline.run.plan import Plan


def notes(plan: Plan) -> dict[str, str]:
    """Heading -> text, of what there is to say."""
    texts = {"Given weights": _seen(plan), "Classes without samples": _unlearned(plan)}
    return {heading: " ".join(parts) for heading, parts in texts.items() if parts}


def _seen(plan: Plan) -> list[str]:
    """Judgements on images that are drawn from the train set, which the training of given weights
    may have had as a whole."""
    trainings = plan.config.trainings.values()
    split: str = plan.config.ablation.split or "test"
    starts = [training for training in trainings if training.weights]
    networks = [n for n in plan.config.networks if any(is_for(t, n) for t in starts)]
    drawn: dict[tuple[str, ...], list[str]] = {}
    sources = {name: of for name, of in sorted(plan.sources.items()) if of.train != 0}
    for name, source in sources.items() if networks else ():
        apart = {"test": source.official_test, "validation": source.official_validation}
        if splits := tuple(s for s in dict.fromkeys(("test", split)) if not apart[s]):
            drawn.setdefault(splits, []).append(name)
    texts = []
    for splits, names in drawn.items():
        judged, remedy = "accuracies, scores and classes", f"a {splits[0]} set of its own"
        if "test" not in splits:
            judged = "scores and classes"
            remedy += ", or ablation.split: test without retraining,"
        texts.append(
            f"The {' and '.join(splits)} images of {some(names)} are drawn from the training set, "
            f"which the weights of {some(networks)} may have been trained on. Unless that training "
            f"left them out, {judged} look better than they are; {remedy} would tell."
        )
    chosen = [
        name
        for name, source in sources.items()
        if plan.config.mending.from_epochs and networks and not source.official_validation
    ]
    if chosen:
        texts.append(
            f"The validation images of {some(chosen)}, by which mending chooses, may flatter the "
            "given weights for the same reason, so that mends seem to lose more clean accuracy "
            "there than they do; a validation set of its own would tell."
        )
    return texts


def _unlearned(plan: Plan) -> list[str]:
    return [
        f"The training set of {name} has no sample of class {some(source.unlearned)}, of "
        f"{source.classes} classes: a network trained on it does not learn these outputs. Where "
        "they are not meant, number the classes without gaps."
        for name, source in sorted(plan.sources.items())
        if source.unlearned and name not in plan.config.untrained
    ]
