"""What touches Snakemake's inside: warm process, records, console, lock, stopping."""
