"""The edge that tells how many messages are in flight on both topics."""

from pipeline import kafka
from pipeline.kafka_offsets import Offsets
from pipeline.settings import Settings


class Flight:
    """Asks the broker; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        """Connects when first used."""
        self._offsets = Offsets(settings)
        self._rows = settings.rows_topic
        self._groups = {
            settings.rows_topic: settings.processor_group,
            settings.results_topic: settings.sink_group,
        }

    def messages(self) -> dict[str, int]:
        """Return how many messages of each topic its group hasn't committed, those on their way to rows included.

        Left out are partitions that have no leader. Raises Transient or Permanent errors of the broker.
        """
        offsets = self._offsets
        places = offsets.led(self._groups)
        ends = offsets.ends(places)
        done = {
            at: offset for group in self._groups.values() for at, offset in offsets.committed(group).items()
        }
        # What is before the first message is in flight no more: purged, or gone by age before anybody committed behind it.
        starts = offsets.starts(at for at, end in ends.items() if end > done.get(at, 0))
        found = dict.fromkeys(self._groups, 0)
        for at, end in ends.items():
            found[at[0]] += max(0, end - max(done.get(at, 0), starts.get(at, 0 if at in done else end)))
        found[self._rows] += kafka.unacknowledged()
        return found
