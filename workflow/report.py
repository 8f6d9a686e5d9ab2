"""The report: one page to look at, and the config it was made with."""

from faultline.run.job import job

with job(snakemake):
    from pathlib import Path

    from faultline.base.files import load_table, save_text
    from faultline.report.pool import side_by_side
    from faultline.report.render import load_look, versions, with_versions
    from faultline.snake.records import forget
    from faultline.studies.config import Config
    from faultline.studies.order import described
    from faultline.studies.report import report

    config, files = Config.model_validate(snakemake.params.config), snakemake.input
    installed = versions()
    tables = {Path(path).stem: load_table(path) for path in files.tables}
    gone = {*described()} - {*tables}
    left = [Path(files.tables[0]).with_name(f"{name}.tsv") for name in gone]  # by an earlier config
    for path in left:
        path.unlink(missing_ok=True)
    forget(left)
    with side_by_side(snakemake.threads):
        html = report(
            tables,
            config=config,
            versions=installed,
            notes=snakemake.params.notes,
            **load_look(files.template),
        )
    save_text(html, snakemake.output.html)
    save_text(with_versions(config.text, installed), snakemake.output.config)
