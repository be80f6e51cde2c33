"""What the program reports: its summary at the end, its progress before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Summary:
    """The result of an export over all its runs. `raw` is all of it, as in `_pagehaul/summary.json`."""

    status: str
    exit_code: int
    out: str
    export_id: str
    """The first part of the names of its files."""
    rows: int
    """Published rows."""
    files: int
    bytes: int
    regions: int
    credits: int
    """Billed credits."""
    credits_in_doubt: int
    """Credits of requests whose response never came: they may have been billed."""
    products: int
    products_complete: int
    requests: int
    """Requests of this run; 0 where the export was complete before."""
    seconds: float
    """Time of this run."""
    cause: str | None
    """Why the run ended, unless it is complete."""
    next_step: str | None
    complete_since: str | None
    """RFC 3339; none if it is not complete."""
    raw: dict[str, Any] = field(repr=False, compare=False)

    @property
    def is_complete(self) -> bool:
        """Whether every product was read to its end and is published."""
        return self.status == "complete"

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Summary":
        """Take the known fields of a summary; later programs may have more, which stay in `raw`."""
        rows, credits_, products, run = (_table(raw, name) for name in ("rows", "credits", "products", "run"))
        return cls(
            status=str(raw["status"]),
            exit_code=int(raw["exit_code"]),
            out=str(raw["out"]),
            export_id=str(raw["export"]),
            rows=int(rows["published"]),
            files=int(raw["files"]),
            bytes=int(raw["bytes"]),
            regions=int(raw["regions"]),
            credits=int(credits_["billed"]),
            credits_in_doubt=int(credits_["in_doubt"]),
            products=int(products["total"]),
            products_complete=int(products["complete"]),
            requests=int(run["requests"]),
            seconds=float(run["seconds"]),
            cause=_text(raw.get("cause")),
            next_step=_text(raw.get("next")),
            complete_since=_text(raw.get("complete_since")),
            raw=raw,
        )


@dataclass(frozen=True)
class Progress:
    """The counters of a running export; pages, rows and credits include those of earlier runs."""

    products: int
    products_done: int
    products_failed: int
    pages: int
    rows: int
    credits: int
    requests: int
    """Requests of this run."""
    retries: int
    throttled: int
    """Responses with status 429."""
    requests_per_second: float
    seconds: float
    """Time since the first request could be sent."""
    eta_seconds: float | None
    """Time left, if it is known."""
    message: str
    """The same for a person, on one line."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "Progress | None":
        """Take the fields of a log line; none if the line is about something else."""
        if "products_done" not in fields:
            return None
        eta = fields.get("eta_seconds")
        return cls(
            products=int(fields["products"]),
            products_done=int(fields["products_done"]),
            products_failed=int(fields["products_failed"]),
            pages=int(fields["pages"]),
            rows=int(fields["rows"]),
            credits=int(fields["credits"]),
            requests=int(fields["requests"]),
            retries=int(fields["retries"]),
            throttled=int(fields["throttled"]),
            requests_per_second=float(fields["requests_per_second"]),
            seconds=float(fields["seconds"]),
            eta_seconds=None if eta is None else float(eta),
            message=str(fields["message"]),
        )


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw[name]
    if not isinstance(table, dict):
        raise TypeError(name)
    return table


def _text(value: object) -> str | None:
    return None if value is None else str(value)
