"""Bytewax: one worker, batches of messages in and out, one function per row. It commits no offsets."""

import json
import sys

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from confluent_kafka import OFFSET_BEGINNING

task = json.loads(sys.argv[1])


def compute(message):
    row = json.loads(message.value)
    amount = int(row["quantity"]) * float(row["price"])
    result = {
        "order_id": row["order_id"],
        "total": round(amount, 2),
        "net": amount * (1 - float(row["discount"])),
    }
    return KafkaSinkMessage(message.key, json.dumps(result).encode())


flow = Dataflow("bench")
rows = kop.input(
    "rows",
    flow,
    brokers=[task["bootstrap"]],
    topics=[task["input"]],
    starting_offset=OFFSET_BEGINNING,
    batch_size=5000,
    add_config={"fetch.queue.backoff.ms": "5", "fetch.wait.max.ms": "100"},
)
kop.output(
    "results",
    op.map("compute", rows.oks, compute),
    brokers=[task["bootstrap"]],
    topic=task["output"],
    add_config={"linger.ms": "5", "batch.size": str(task["producer"]["batch.size"])},
)

if __name__ == "__main__":
    cli_main(flow)
