"""The bytes of a fetch's runs, from whichever source goes on: one version, resumed where one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from distributor.core.model import AssetRequest, StoredResponse
from distributor.core.representation import Received, binding, check_continuation, check_exact, resumable
from distributor.core.retry import after_failure, failures_after
from distributor.delivery.means import Means
from distributor.delivery.pacing import Pacing
from distributor.delivery.run import Run
from distributor.errors import BodyShort, DigestMismatch, RangeIgnored, SourceError


class Bringing:
    """Reads what runs are to fill.

    stored    what is filled; its representation is the version to which all is bound
    taken_on  told of a tentative run that a source has taken on
    """

    def __init__(
        self,
        means: Means,
        request: AssetRequest,
        stored: StoredResponse,
        taken_on: Callable[[Run], None],
    ) -> None:
        self._means = means
        self._request = request
        self._stored = stored
        self._taken_on = taken_on
        self._sources: set[str] = set()

    async def next(self, run: Run) -> bytes:
        """The next bytes of a run; b"" at the end of a body of unknown length, or when it is over.

        When a source fails it resumes at the first absent byte. Raises what it gives up with.
        """
        means, stored = self._means, self._stored
        while not run.over:
            try:
                if run.exchange is None:
                    await self._reopen(run)
                    if run.tentative:
                        self._taken_on(run)
                        continue
                data = await self._read(run)
            except SourceError as error:
                run.drop_exchange()
                run.failures, run.gained = failures_after(run.failures, run.gained), 0
                step = after_failure(error, run.failures, len(means.pool))
                if (
                    step is None
                    or isinstance(error, RangeIgnored)
                    or not resumable(stored.representation)
                    or stored.length is None
                ):
                    raise
                await asyncio.sleep(step.pause)
                means.observer.resumed()
            else:
                self._sources.add(run.source)
                return data
        return b""

    def verified(self, sha256: bytes | None) -> bool:
        """Whether the whole is what its source declared. Raises DigestMismatch.

        sha256  of the whole; None: it could not be hashed. Nothing declared counts as verified
        """
        declared = self._stored.representation.digest
        if declared is None or sha256 == declared:
            return True
        if sha256 is None:
            return False
        error = DigestMismatch("the body does not hash to its Repr-Digest")
        for name in self._sources:
            self._means.pool.failed(error, name)
        raise error

    async def _read(self, run: Run) -> bytes:
        assert run.exchange is not None
        if run.pacing is None:
            run.pacing = Pacing(self._means)
        began = self._means.clock.monotonic()
        try:
            run.pacing.check()
            data = await run.exchange.read()
            if not data and run.stop is not None and not run.over:
                raise BodyShort(source=run.source)
        except SourceError as error:
            self._means.pool.failed(error)
            raise
        if self._stored.length is not None and resumable(self._stored.representation):
            run.pacing.came(run.source, len(data), self._means.clock.monotonic() - began)
        return data

    async def _reopen(self, run: Run) -> None:
        """Ask for the rest of a run, bound to the version."""
        representation = self._stored.representation
        start, stop = run.position, run.stop

        def judge(received: Received) -> None:
            check_continuation(representation, received, start)
            check_exact(received, start, stop)

        request = self._means.plain(self._request)._replace(
            start=start,
            stop=None if stop == self._stored.length else stop,
            condition=binding(representation),
        )
        run.exchange = await self._means.pool.open(request, judge)
        run.source = run.exchange.source
        if run.pacing is not None:
            run.pacing.renew()
