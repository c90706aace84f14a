"""The doorbells of a bus, when publishers ring them, and the consumers to be woken."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from eventbus.delivery.doorbell import Doorbell
from eventbus.delivery.mailbox import Mailbox
from eventbus.delivery.taking import taking

__all__ = ["MAX_PENDING", "WakeUps"]

MAX_PENDING = 256
"""The most events that are pending before a publisher distributes them itself."""


class WakeUps:
    """One doorbell for each loop in which a bus has consumers, and the consumers with new events.

    Changed in the critical section only, except by `wake_scheduled`.

    Args:
        on_ring: Called in a doorbell's loop after a ring; see `Doorbell`.
        switch_interval: The interpreter's switch interval, in seconds, while events wait for a loop
            of another thread; None leaves it alone.

    Attributes:
        backlog: How many events the woken consumers had to take at the last look; -1 for none yet.
        doorbells: The doorbells.
        ring_threshold: A publisher rings or distributes when more events than this are pending; -1
            once the bus is closed.
    """

    __slots__ = (
        "_is_closed",
        "_on_ring",
        "_scheduled",
        "_switch_interval",
        "_users",
        "_woken",
        "backlog",
        "doorbells",
        "ring_threshold",
    )

    def __init__(self, on_ring: Callable[[Doorbell], bool], switch_interval: float | None) -> None:
        if switch_interval is not None and not switch_interval > 0:
            raise ValueError(
                f"switch_interval={switch_interval} is not positive. Pass None to leave it alone"
            )
        self._on_ring = on_ring
        self._switch_interval = switch_interval
        self._is_closed = False
        self._scheduled: deque[Callable[[], None]] = deque()
        self._woken: set[Mailbox] = set()  # their consumers may be at work
        self._users: dict[object, tuple[Doorbell, int]] = {}  # by loop
        self.backlog: int = 0
        self.doorbells: tuple[Doorbell, ...] = ()
        self.ring_threshold: int = MAX_PENDING

    # When to ring.

    def close(self) -> None:
        """Have every further publisher find out that the bus is closed."""
        self._is_closed = True
        self.ring_threshold = -1

    def expect_look(self) -> None:
        """Spare publishers the ring: a loop is about to look at the pending events."""
        if not self._is_closed:
            self.ring_threshold = MAX_PENDING

    def expect_no_look(self) -> None:
        """Have publishers ring: no loop is about to look at the pending events."""
        if not self._is_closed:
            self.ring_threshold = 0 if self.doorbells else MAX_PENDING

    # Doorbells.

    def share_doorbell(self, loop: object) -> Doorbell:
        """Return the doorbell of the running loop, and count one more user of it."""
        doorbell, users = self._users.get(loop) or (Doorbell(self._on_ring, self._switch_interval), 0)
        self._users[loop] = (doorbell, users + 1)
        self._list_doorbells()
        return doorbell

    def return_doorbell(self, doorbell: Doorbell) -> None:
        """Count one user less of a doorbell."""
        for loop, (known, users) in tuple(self._users.items()):
            if known is doorbell:
                if users > 1:
                    self._users[loop] = (doorbell, users - 1)
                else:
                    del self._users[loop]
                    doorbell.close()
        self._list_doorbells()

    def _list_doorbells(self) -> None:
        self.doorbells = tuple(doorbell for doorbell, _ in self._users.values())
        self.expect_no_look()

    # Consumers.

    def schedule(self, mailbox: Mailbox, on_ready: Callable[[], None]) -> None:
        """Have a mailbox's sleeping consumer woken after the critical section."""
        self._scheduled.append(on_ready)  # first: it may be woken twice, but must be woken
        self._woken.add(mailbox)
        mailbox.on_ready = None

    def wake_scheduled(self) -> None:
        """Wake the scheduled consumers. Outside the critical section: waking is a system call."""
        while self._scheduled:
            taken: list[Callable[[], None]] = []
            try:
                # In one call: what an exception strikes is in the list, or still scheduled.
                taken.extend(taking(self._scheduled, len(self._scheduled)))
                for on_ready in taken:
                    on_ready()
            except IndexError:  # another thread was faster
                self._scheduled.extend(taken)
            except BaseException:
                for on_ready in taken:  # waking twice is harmless
                    on_ready()
                raise

    def is_backlog_changing(self) -> bool:
        """Whether consumers have taken events since the last call, and have more to take."""
        self._woken = {each for each in self._woken if each.contents and each.on_ready is None}
        before, self.backlog = self.backlog, sum(map(len, self._woken))
        return 0 < self.backlog != before
