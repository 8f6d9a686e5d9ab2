"""The report: one page to look at, and the config it was made with."""

from faultline.job import job

with job(snakemake):
    from pathlib import Path

    from faultline import reporting
    from faultline.files import load_table, save_text

    config, given = snakemake.params.config, snakemake.input
    template = Path(given.template).read_text(encoding="utf-8")
    tables = {name: load_table(given[name]) for name in reporting.TABLES}
    versions = reporting.versions()
    html = reporting.render(tables, config=config, versions=versions, template=template)
    save_text(html, snakemake.output.html)
    save_text(reporting.resolved_config(config, versions=versions), snakemake.output.config)
