"""Follow what is sent of one blob, so that each byte counts once for the speed of the link."""

from __future__ import annotations

from pusher.dataclass import dataclass


@dataclass(kw_only=True)
class SentBytes:
    """How far one blob is sent, in bytes."""

    offset: int = 0
    """Acknowledged."""
    in_flight: int = 0
    """Sent of the current chunk."""
    in_doubt: int = 0
    """Sent before a break. Until more is sent the registry may turn out to have them."""

    def record_sending(self, in_flight: int) -> int:
        """Record the bytes of the current chunk that were sent, 0 after a break; return how many are new."""
        sent, self.in_flight = in_flight - self.in_flight, in_flight
        if sent < 0:
            self.in_doubt -= sent
        elif sent > 0:
            self.in_doubt = 0
        return max(0, sent)

    def record_acknowledged(self, offset: int) -> int:
        """Record how many bytes the registry has; return how many of them were not reported as sent."""
        found = offset - self.offset - self.in_flight
        self.offset, self.in_flight = offset, 0
        known = min(found, self.in_doubt)  # negative if bytes were lost
        self.in_doubt -= known
        return found - known
