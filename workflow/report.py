"""The report: one page to look at, and the config it was made with."""

from faultline.run.job import job

with job(snakemake):
    from pathlib import Path

    from faultline.base.files import load_table, save_text
    from faultline.report.render import load_look, resolved_config, versions
    from faultline.studies.report import report

    config, given, found = snakemake.params.config, snakemake.input, versions()
    html = report(
        {Path(path).stem: load_table(path) for path in given.tables},
        config=config,
        versions=found,
        notes=snakemake.params.notes,
        **load_look(given.template),
    )
    save_text(html, snakemake.output.html)
    save_text(resolved_config(config, versions=found), snakemake.output.config)
