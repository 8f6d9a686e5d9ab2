"""The report: one page to look at, and the config it was made with."""

from faultline.job import job

with job(snakemake):
    from pathlib import Path

    import pandas as pd

    from faultline import reporting
    from faultline.files import load_table, save_text

    def table(path):
        """A table, or one without rows where there was nothing to write."""
        return load_table(path) if Path(path).read_bytes().strip() else pd.DataFrame()

    config, given = snakemake.params.config, snakemake.input
    beside = Path(reporting.__file__).with_name("report.html.j2")
    template = Path(given.get("template", beside)).read_text(encoding="utf-8")
    tables = {name: table(given[name]) for name in reporting.TABLES}
    versions = reporting.versions()
    html = reporting.render(tables, config=config, versions=versions, template=template)
    save_text(html, snakemake.output.html)
    save_text(reporting.resolved_config(config, versions=versions), snakemake.output.config)
