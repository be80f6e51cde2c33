"""Exports a list of products each day, and loads what came.

The workers need this package (`pip install 'pagehaul[arrow]'`), the key in KEYAPI_TOKEN, and a disk for OUT that a retry on another
worker sees too: the export is resumed from it. docs/schedulers.md explains the choices.
"""

from __future__ import annotations

import logging
import signal
from datetime import timedelta
from typing import Any

import pagehaul
import pendulum
from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

# Any flag of `pagehaul export`, with underscores.
SETTINGS: dict[str, Any] = {
    "products": "/data/products.txt",
    "out": "/data/videos",
    "qps": 10,
    "sort": "create_time:asc",
}
# A person must act: a retry would end in the same way.
FAIL = (
    pagehaul.UsageError,
    pagehaul.AccountError,
    pagehaul.StorageError,
    pagehaul.IntegrityError,
    pagehaul.ContractError,
    pagehaul.LimitReached,  # remove this line, and the task waits for a higher max_credits as long as it has retries
)

log = logging.getLogger(__name__)


@dag(
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    tags=["pagehaul"],
)
def pagehaul_daily() -> None:
    # Other errors are retried: no success for too long, a signal, a worker that was lost.
    @task(retries=6, retry_delay=timedelta(minutes=5), retry_exponential_backoff=True, max_retry_delay=timedelta(hours=1))
    def export() -> dict[str, Any]:
        """Return the summary, which becomes the XCom."""
        context = get_current_context()
        run = context["dag_run"]
        # The run's own date: a retry after midnight continues the same snapshot and pays nothing again. A run that an asset or a
        # person started may have no logical date.
        day = (run.logical_date or run.run_after).strftime("%Y-%m-%d")
        # Airflow's handler waits for the task. Without it, SIGTERM stops the export cleanly.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            return pagehaul.export(snapshot=day, **SETTINGS).raw
        except pagehaul.PartialError as error:
            log.warning("some products are incomplete: %s", error)
            return error.summary.raw if error.summary else {}
        except pagehaul.BusyError as error:
            # After a lost worker its export may still run. It is waited for by retries, because nothing else would load the day.
            if context["ti"].try_number > 1:
                raise AirflowException(str(error)) from error
            raise AirflowSkipException(str(error)) from error
        except FAIL as error:
            raise AirflowFailException(str(error)) from error

    @task
    def load(summary: dict[str, Any]) -> int:
        """Read what was published. Replace this with your own load."""
        return pagehaul.read(summary["out"]).count_rows()

    @task.short_circuit
    def is_partial(summary: dict[str, Any]) -> bool:
        return summary["status"] == "partial"

    @task
    def alert(summary: dict[str, Any]) -> None:
        """Replace this with a message to whoever looks after the list."""
        log.warning("%s of %s products are complete", summary["products"]["complete"], summary["products"]["total"])

    summary = export()
    load(summary)
    is_partial(summary) >> alert(summary)


pagehaul_daily()
