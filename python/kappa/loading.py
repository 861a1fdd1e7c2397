"""Loading the job of a script without running it."""

from __future__ import annotations

import os
import re
import runpy
import sys

from kappa.exceptions import ConfigError, KappaError
from kappa.job import Job


def load_job(reference: str) -> Job:
    """The job of `JOB.py`, or the one called NAME (its variable or its name) of `JOB.py:NAME`."""
    path, name = _split(reference)
    if not os.path.isfile(path):
        raise ConfigError(f"there is no file {path}", code="script_not_found", context={"file": path})
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    try:
        found = runpy.run_path(path, run_name="__kappa__")
    except KappaError:
        raise
    except SystemExit as end:
        raise ConfigError(
            f"{path} ended the process with {end.code} when it was loaded",
            code="script_failed",
            hint='put what runs under: if __name__ == "__main__":',
        ) from None
    except Exception as error:
        raise ConfigError(f"{path} failed: {type(error).__name__}: {error}", code="script_failed") from error
    finally:
        sys.path.remove(folder)
    jobs = {variable: value for variable, value in found.items() if isinstance(value, Job)}
    return _chosen(jobs, path, name)


def _split(reference: str) -> tuple[str, str | None]:
    path, colon, name = reference.rpartition(":")
    if colon and re.fullmatch(r"[\w.-]+", name) and not os.path.isfile(reference):
        return path, name
    return reference, None


def _chosen(jobs: dict[str, Job], path: str, name: str | None) -> Job:
    names = ", ".join(sorted({job.name for job in jobs.values()})) or "none"
    if name is not None:
        for variable, job in jobs.items():
            if name in (variable, job.name):
                return job
        raise ConfigError(f"{path} has no job {name!r}", code="job_not_found", hint=f"its jobs: {names}")
    distinct = list({id(job): job for job in jobs.values()}.values())
    if len(distinct) != 1:
        hint = 'a job is made by kappa.Job("name") at the top of the script'
        if distinct:
            hint = f"its jobs: {names}; write {path}:NAME"
        raise ConfigError(f"{path} has {len(distinct)} jobs", code="job_not_found", hint=hint)
    return distinct[0]
