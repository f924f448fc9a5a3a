"""Stock Faust: its aiokafka driver, json.loads, compute, topic.send, one event per row."""

import json
import sys

import faust

task = json.loads(sys.argv[1])
app = faust.App(
    task["group"],
    broker=f"kafka://{task['bootstrap']}",
    store="memory://",
    autodiscover=False,
    web_enabled=False,
    topic_allow_declare=False,
    topic_disable_leader=True,
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    broker_commit_interval=1,
    consumer_auto_offset_reset="earliest",
)
source = app.topic(task["input"], key_serializer="raw", value_serializer="raw")
target = app.topic(task["output"], key_serializer="raw", value_serializer="raw")


@app.agent(source)
async def compute(stream):
    async for event in stream.events():
        row = json.loads(event.value)
        amount = int(row["quantity"]) * float(row["price"])
        result = {
            "order_id": row["order_id"],
            "total": round(amount, 2),
            "net": amount * (1 - float(row["discount"])),
        }
        await target.send(key=event.key, value=json.dumps(result).encode(), partition=event.message.partition)


if __name__ == "__main__":
    faust.Worker(app, loglevel="warning").execute_from_commandline()
