# faultline: find where a network breaks, and mend it.
#
#     snakemake --cores 8                                              the default run, config.yaml
#     snakemake --cores 8 --configfile configs/fashion-mnist.yaml      another run

from snakemake.utils import min_version

min_version("9.26")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"


for study in STUDIES:

    include: f"rules/{study}.smk"


include: "rules/report.smk"


rule all:
    """The whole run, up to its report."""
    default_target: True
    input:
        rules.report.output,
        TABLES.values(),
        BETWEEN,
