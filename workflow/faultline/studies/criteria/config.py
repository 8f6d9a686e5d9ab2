"""What the referee asks of the config."""

from faultline.base import plugins
from faultline.base.errors import UserError, nearest
from faultline.config.sense import check_epochs, check_layers, check_schedules, chosen_attacks
from faultline.data.describe import ENOUGH
from faultline.studies.criteria.names import CONTROLS, CRITERIA, EARLIER, name_of


def check(config: dict, facts: dict) -> None:
    section, attacks = config["criteria"], config["attacks"]
    chosen_attacks(config, "criteria", "judged_under")
    if attacks:
        section.setdefault("attack", (config["ablation"]["attacks"] or sorted(attacks))[0])
    unfit = _unfit(config, facts)
    if "all" in section["methods"]:
        builtin = [n for n in (*CRITERIA, *CONTROLS) if n != "clat" or not unfit]
        others = [n for n in section["methods"] if n not in ("all", *builtin)]
        section["methods"] = [*builtin, *others]
    names = [name_of(method) for method in section["methods"]]
    section["use"].setdefault("methods", [name for name in names if name != "random"])
    if not section["methods"]:
        return
    if section.get("attack") not in attacks:
        raise UserError(
            f"config key criteria.attack: {section.get('attack')!r} is not under attacks; "
            f"{nearest(section.get('attack'), attacks)}"
        )
    if unfit and "clat" in section["methods"]:
        raise UserError(f"config key criteria.methods: clat {unfit}; leave it out")
    check_layers("criteria.layers", section["layers"], config["networks"])
    check_epochs("criteria.epochs", section["epochs"], config["trainings"])
    builtin = [*CRITERIA, *CONTROLS, *EARLIER]
    for method in filter(plugins.is_own, section["methods"]):
        plugins.check("criteria.methods", method)
        if name_of(method) in builtin or names.count(name_of(method)) > 1:
            raise UserError(
                f"config key criteria.methods: two criteria would be called {name_of(method)}; "
                "rename yours"
            )
    for name, dataset in config["datasets"].items():
        count = dataset["validation"]
        if count is not None and count < ENOUGH:
            raise UserError(
                f"config key datasets.{name}.validation: {count} images are too few for criteria; "
                f"give at least {ENOUGH}"
            )
    if section["use"]["recipes"]:
        _check_use(config, names)


def _check_use(config: dict, names: list[str]) -> None:
    section, key = config["criteria"], "config key criteria.use"
    layerwise = [name for name in EARLIER if not name.startswith("dropout")]
    known = [name for name in (*names, *layerwise) if name != "random"]
    for listed, there in (("methods", known), ("lowest", [*CRITERIA, *CONTROLS, *known])):
        for name in section["use"][listed]:
            if name not in there:
                raise UserError(
                    f"{key}.{listed}: {name!r} scores no layers here (criteria.methods); "
                    f"{nearest(name, there)}"
                )
    for name in sorted({"none", "full"} & {*section["use"]["methods"]}):
        raise UserError(f"{key}.methods: {name} stands for what is compared; rename your criterion")
    attack = config["attacks"][section["attack"]]
    if attack.get("normalised_units") and section["use"]["recipes"] != ["standard"]:
        raise UserError(
            f"{key}.recipes: criteria.attack is in normalised units, and adversarial training is "
            "not; set it to [standard]"
        )
    check_schedules("criteria.epochs", section["epochs"], config["trainings"])


def _unfit(config: dict, facts: dict) -> str:
    """Why the images of the attack cannot be sought layer by layer, if they cannot."""
    tokens = [name for name, source in facts.items() if source.kind == "token"]
    if tokens:
        return f"moves pixels, and data set {tokens[0]} holds tokens"
    attack = config["attacks"].get(config["criteria"].get("attack"), {})
    return "is not defined in normalised units" if attack.get("normalised_units") else ""
