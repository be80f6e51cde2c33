"""The errors, one for each exit code of the program."""

from ._summary import Summary


class PagehaulError(Exception):
    """The program ended with another exit code than 0."""

    def __init__(
        self, exit_code: int, cause: str | None = None, next_step: str | None = None, summary: Summary | None = None
    ) -> None:
        """Keep what the program said: why it ended, what to do next, and its summary, if it has got so far."""
        super().__init__(exit_code, cause, next_step, summary)
        self.exit_code = exit_code
        self.cause = cause
        self.next_step = next_step
        self.summary = summary

    def __str__(self) -> str:
        """Return the cause and the next step."""
        text = self.cause or f"exit code {self.exit_code}"
        return f"{text}; next: {self.next_step}" if self.next_step else text


class InternalError(PagehaulError):
    """Exit code 1, or a signal ended the program: a bug, or too little memory."""


class UsageError(PagehaulError):
    """Exit code 2: a setting, the list or the key is invalid. No request was sent."""


class PartialError(PagehaulError):
    """Exit code 3: the output is valid but incomplete. `summary` is there."""


class BusyError(PagehaulError):
    """Exit code 4: another process works on this export."""


class TemporaryFailure(PagehaulError):
    """Exit code 5: nothing succeeded for too long. The same call resumes."""


class LimitReached(PagehaulError):
    """Exit code 6: `max_credits` or another limit is reached. The same call with a higher one resumes."""


class AccountError(PagehaulError):
    """Exit code 7: the key or its credits, or the credentials of a bucket."""


class StorageError(PagehaulError):
    """Exit code 8: a disk is full or failed."""


class IntegrityError(PagehaulError):
    """Exit code 9: ledger or output are damaged or removed, or belong to other settings."""


class ContractError(PagehaulError):
    """Exit code 10: the responses do not match the endpoint's description."""


class Interrupted(PagehaulError):
    """Exit code 130 or 143: a signal or `stop` ended the run cleanly. The same call resumes."""


class ProgramNotFound(FileNotFoundError):
    """The program of this package is not where installers put it."""


class NotReadable(Exception):
    """There is no export to read, it is not complete, or its files were removed."""


BY_EXIT_CODE: dict[int, type[PagehaulError]] = {
    1: InternalError,
    2: UsageError,
    3: PartialError,
    4: BusyError,
    5: TemporaryFailure,
    6: LimitReached,
    7: AccountError,
    8: StorageError,
    9: IntegrityError,
    10: ContractError,
    130: Interrupted,
    143: Interrupted,
}
