"""A plain confluent-kafka loop: parse, compute and write each row in Python, commit once a second after delivery.

Tuned as ours is: the same client settings, `produce_batch` with keys. With `json` instead of `orjson` for the second peer.
"""

import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

task = json.loads(sys.argv[1])
if task["parser"] == "orjson":
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
else:
    loads = json.loads

    def dumps(value):
        return json.dumps(value, separators=(",", ":")).encode()


def compute(value):
    row = loads(value)
    amount = int(row["quantity"]) * float(row["price"])
    return dumps(
        {"order_id": row["order_id"], "total": round(amount, 2), "net": amount * (1 - float(row["discount"]))}
    )


def main():
    failed = []
    producer = Producer(task["producer"])
    consumer = Consumer(task["consumer"] | {"group.id": task["group"]})
    consumer.subscribe([task["input"]])
    source, target = task["input"], task["output"]
    offsets, committed = {}, time.monotonic()
    while True:
        runs = {}
        for message in consumer.consume(5000, 0.1):
            if message.error():
                raise SystemExit(str(message.error()))
            runs.setdefault(message.partition(), []).append(message)
        for partition, run in runs.items():
            batch = [{"key": message.key(), "value": compute(message.value())} for message in run]
            while batch:
                producer.produce_batch(
                    target, batch, partition=partition, on_delivery=lambda error, _: failed.append(error)
                )
                batch = [message for message in batch if message.pop("_error", None)]
                producer.poll(0.05 if batch else 0)
            offsets[partition] = run[-1].offset() + 1
        if offsets and time.monotonic() - committed > 1:
            producer.flush()
            if any(failed):
                raise SystemExit(str(failed[0]))
            positions = [TopicPartition(source, partition, offset) for partition, offset in offsets.items()]
            consumer.commit(offsets=positions, asynchronous=False)
            offsets, committed = {}, time.monotonic()


main()
