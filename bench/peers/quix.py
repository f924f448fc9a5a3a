"""Quix Streams: a streaming dataframe with one function per row."""

import json
import sys

from quixstreams import Application

task = json.loads(sys.argv[1])


def compute(row):
    amount = int(row["quantity"]) * float(row["price"])
    return {
        "order_id": row["order_id"],
        "total": round(amount, 2),
        "net": amount * (1 - float(row["discount"])),
    }


app = Application(
    broker_address=task["bootstrap"],
    consumer_group=task["group"],
    auto_offset_reset="earliest",
    auto_create_topics=False,
    commit_interval=1.0,
    loglevel="WARNING",
    consumer_extra_config={"fetch.queue.backoff.ms": 5, "fetch.wait.max.ms": 100, "session.timeout.ms": 6000},
    producer_extra_config={key: task["producer"][key] for key in ("linger.ms", "batch.size")},
)
source = app.topic(task["input"], key_deserializer="bytes", value_deserializer="json")
target = app.topic(task["output"], key_serializer="bytes", value_serializer="json")
app.dataframe(source).apply(compute).to_topic(target)

if __name__ == "__main__":
    app.run()
