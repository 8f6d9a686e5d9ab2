# faultline: find where a network breaks, and mend it.
#
#     snakemake --cores 8                                              the default run, config.yaml
#     snakemake --cores 8 --configfile configs/fashion-mnist.yaml      another run

from snakemake.utils import min_version

min_version("9.0")

# A config given on the command line stands alone; Snakemake would merge it into the default one.
if not workflow.configfiles:

    configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/sustainability.smk"
include: "rules/tune.smk"
include: "rules/train.smk"
include: "rules/attack.smk"
include: "rules/robustness.smk"
include: "rules/ablate.smk"
include: "rules/perturb.smk"
include: "rules/score.smk"
include: "rules/classify.smk"
include: "rules/retrain.smk"
include: "rules/fragile.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        REPORT,
