rule report:
    input:
        tables=list(TABLES.values()),
        template=os.path.relpath(ROOT / "workflow/faultline/report/report.html.j2"),
    output:
        html=report(REPORT, category="faultline"),
        config=f"{RESULTS}/config.resolved.yaml",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../envs/faultline.yaml"
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        config=ordered(config),
        code=code(
            "report",
            *(
                f"faultline/studies/{study}/{part}"
                for study in STUDIES
                for part in ("__init__", "section")
            ),
        ),
    script:
        "../workflow/report.py"
