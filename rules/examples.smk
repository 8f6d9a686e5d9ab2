# One checkpoint of each network on each data set of images.
ILLUSTRATED = PLAN.illustrated()


rule craft_examples:
    """Pictures of test images, of what attacks make of them, and of those that filters keep right."""
    input:
        data=DATA,
        checkpoint=f"{CHECKPOINT}/checkpoint.pt",
        filters=lambda w: [f"{CHECKPOINT}/classes/filters.tsv"] * bool(dropout_facts(w)),
        facts=dropout_facts,
        chosen=lambda w: chosen_images(w) if dropout_facts(w) else [],
    output:
        examples=f"{CHECKPOINT}/examples/examples.tsv",
        lost=f"{CHECKPOINT}/examples/lost.tsv",
    log:
        f"{LOGS}/craft_examples.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=60,
        gpu=GPU,
    params:
        attacks=PLAN.attacks(),
        images=CONFIG.ablation.images,
        split=CONFIG.ablation.split,
        at=CONFIG.nodal_dropout.at,
        device=CONFIG.device,
        code=code("craft_examples"),
    script:
        "../workflow/craft_examples.py"


use rule tabulate_accuracy as tabulate_examples with:
    """The tables that the study examples gives to the report."""
    input:
        examples=fill(f"{CHECKPOINT}/examples/examples.tsv", ILLUSTRATED),
        lost=fill(f"{CHECKPOINT}/examples/lost.tsv", ILLUSTRATED),
    output:
        **tables(
            "examples",
            examples=ILLUSTRATED,
            lost_images=ILLUSTRATED and DROPPED,
        ),
    log:
        f"{RESULTS}/logs/tabulate_examples.log",
    params:
        study="examples",
        settings={},
        code=code("tabulate_study", "faultline/studies/examples/tables"),


BETWEEN += outputs(rules.craft_examples, ILLUSTRATED)
