"""One windowed sum with Quix Streams, for comparison: quix_sum.py BOOTSTRAP TOPIC EVENTS.

Prints how many seconds passed between the first event and the last. State is kept without changelog topics.
"""

import sys
import tempfile
import time
from datetime import timedelta

from quixstreams import Application


def main(bootstrap: str, topic: str, events: int) -> None:
    times = {}

    def note(_) -> None:
        times.setdefault("first", time.perf_counter())
        times["last"] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=bootstrap,
            consumer_group="quix",
            auto_offset_reset="earliest",
            auto_create_topics=False,
            use_changelog_topics=False,
            state_dir=folder,
            loglevel="ERROR",
        )
        payments = app.dataframe(app.topic(topic, value_deserializer="json"))
        amounts = payments.apply(lambda payment: payment["amount"])
        amounts.tumbling_window(timedelta(minutes=10)).sum().current().update(note)
        app.run(count=events, collect=False)
    print(times["last"] - times["first"])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
