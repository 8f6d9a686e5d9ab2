"""What goes with the outputs that `snakemake --delete-all-output` deletes. No torch."""

import sys
from pathlib import Path

from snakemake.dag import DAG

from faultline.base.errors import UserError
from faultline.snake import kept, lock, made


def go_with_outputs(config: dict) -> None:
    """Have Snakemake remove the record of each file that it deletes, and what is kept of these in
    the results' own folder; not while a run holds that folder."""
    clean = DAG.clean

    async def clean_with_them(self, only_temp=False, dryrun=False):
        if not dryrun:
            try:
                lock.take(made.folder_of(config))
            except UserError as error:
                sys.exit(f"error: {error}")
        await clean(self, only_temp=only_temp, dryrun=dryrun)
        if not dryrun:
            files = (file for job in self.jobs for file in job.output)
            made.forget(file for file in files if not Path(file).exists())
            kept.forget(config)

    DAG.clean = clean_with_them
