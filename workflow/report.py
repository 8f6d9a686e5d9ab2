"""The report: one page to look at, and the config it was made with."""

from faultline.run.job import job

with job(snakemake):
    from pathlib import Path

    from faultline.base.files import load_table, save_text
    from faultline.report.render import resolved_config, versions
    from faultline.studies.report import report

    config, given, found = snakemake.params.config, snakemake.input, versions()
    html = report(
        {Path(path).stem: load_table(path) for path in given.tables},
        config=config,
        versions=found,
        template=Path(given.template).read_text(encoding="utf-8"),
    )
    save_text(html, snakemake.output.html)
    save_text(resolved_config(config, versions=found), snakemake.output.config)
