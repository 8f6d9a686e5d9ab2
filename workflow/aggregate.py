"""One table per kind of result over the whole run, and what compares checkpoints and seeds."""

from faultline.run.job import job

with job(snakemake):
    import pandas as pd

    from faultline.ablation.facts import Facts, unpack
    from faultline.attacks.checks import attack_order, split_attacks
    from faultline.base.comparison import compare_policies
    from faultline.base.files import load_arrays, load_table, save_table
    from faultline.base.statistics import wilson_interval
    from faultline.studies.fragile.fragility import association, join, overlaps
    from faultline.studies.own.scores import accuracy_changes
    from faultline.studies.robustness.scores import (
        differences,
        over_seeds,
        rg_scores,
    )
    from faultline.studies.sustainability.lists import agreement
    from faultline.studies.synaptic.classes import invariances

    given, output, params = snakemake.input, snakemake.output, snakemake.params

    def changes(path):
        facts = Facts.from_arrays(load_arrays(path))
        return accuracy_changes(facts, confidence=params.confidence)

    def joined(paths, places, load=load_table):
        parts = []
        for path, place in zip(paths, places, strict=True):
            table = load(path)
            for position, (key, value) in enumerate(place.items()):
                if key not in table:
                    table.insert(position, key, value)
            parts.append(table)
        parts = [part for part in parts if len(part)] or parts[:1]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def hits(paths):
        return [unpack(load_arrays(path)) for path in paths]

    layers = joined(given.layers, params.scored)
    checks = pd.concat(
        [joined(given.checks, params.attacked), joined(given.together_checks, params.together)]
    )
    accuracy = pd.concat(
        [joined(given.accuracy, params.attacked), joined(given.together_accuracy, params.together)],
        ignore_index=True,
    )
    attack_hits, attacked = hits(given.attack_correct), list(params.attacked)
    for found, place in zip(hits(given.together_correct), params.together, strict=True):
        by_attack = split_attacks(found)
        attack_hits += by_attack.values()
        attacked += [place | {"attack": attack} for attack in by_attack]
    order = attack_order(attack_hits, attacked, attacks=params.attacks, masking=params.masking)
    policies = compare_policies(
        hits(given.retrain_correct), params.retrained, confidence=params.confidence
    )
    filters = joined(given.filters, params.scored)
    targeting = join(
        joined(given.targeting, params.targeted), filters, confidence=params.confidence
    )
    associated = association(
        targeting, permutations=params.permutations, confidence=params.confidence
    )
    remedies = compare_policies(
        hits(given.remedy_correct),
        params.remedied,
        reference="none",
        confidence=params.confidence,
    )
    _, low, high = wilson_interval(accuracy["correct"], accuracy["n"], confidence=params.confidence)
    save_table(accuracy.assign(ci_low=low, ci_high=high), output.accuracy)
    save_table(pd.concat([checks, pd.DataFrame(order)], ignore_index=True), output.checks)
    save_table(joined(given.history, params.histories), output.history)
    save_table(joined(given.curves, params.scored), output.curves)
    save_table(layers, output.layers)
    save_table(filters, output.filters)
    save_table(joined(given.bands, params.scored), output.bands)
    save_table(joined(given.retrain_result, params.retrained), output.retraining)
    save_table(policies, output.comparison)
    save_table(invariances(layers, params.network_layers), output.invariance)
    for kind in ("perturbations", *(f"perturbation_{k}" for k in ("layers", "headline", "depth"))):
        save_table(joined(given[kind], params.perturbed), output[kind])
    save_table(joined(given.ablations, params.ablated, load=changes), output.ablations)
    save_table(targeting, output.targeting)
    save_table(joined(given.kernels, params.targeted), output.kernels)
    save_table(associated, output.association)
    save_table(overlaps(filters, confidence=params.confidence), output.fragile_overlap)
    save_table(joined(given.gains, params.mended), output.gains)
    save_table(joined(given.strengths, params.mended), output.strengths)
    save_table(remedies, output.remedy)
    save_table(joined(given.tuning, params.tuned), output.tuning)
    scores, confidence = rg_scores(accuracy), params.confidence
    one_step = [name for name, attack in params.attacks.items() if attack["method"] == "fgsm"]
    save_table(
        over_seeds(scores, params.published, beside=one_step, confidence=confidence),
        output.robustness,
    )
    save_table(
        differences(scores, params.bases, confidence=confidence),
        output.robustness_differences,
    )
    probes, lists = (
        joined(given[kind], params.sustained) for kind in ("sustainability", "sustainability_lists")
    )
    save_table(probes, output.sustainability)
    save_table(lists, output.sustainability_lists)
    save_table(agreement(lists, probes), output.sustainability_agreement)
