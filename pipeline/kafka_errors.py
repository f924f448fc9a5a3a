"""librdkafka's errors turned into ours."""

from confluent_kafka import KafkaError

from pipeline.errors import DeliveryFailed, MillstreamError, Permanent, Refused, Unreachable

REFUSALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}

MOVED_ON = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.GROUP_ID_NOT_FOUND,  # the broker has lost its data
    KafkaError._NO_OFFSET,
}
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE,
    KafkaError._WAIT_COORD,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
}

UNSENT = {
    KafkaError._MSG_TIMED_OUT,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._PURGE_QUEUE,  # `forget` dropped it, and is told of that too late
    KafkaError._PURGE_INFLIGHT,
    KafkaError._FATAL,  # another client may take it: the broker has lost what it knew of this one
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
}


def translate(error: KafkaError, doing: str) -> MillstreamError:
    """Return the error of ours that librdkafka's is."""
    text = f"Kafka: {doing + ': ' if doing else ''}{error.str()}"
    if error.code() in REFUSALS:
        return Refused(text)
    passing = error.retriable() or error.code() in PASSING
    return Unreachable(text) if passing else Permanent(text)


def undelivered(error: KafkaError) -> type[MillstreamError]:
    """Return what it means that a message wasn't taken: a topic that is gone may be made anew, a message never shrinks."""
    if error.code() in REFUSALS:
        return Refused
    return Unreachable if error.retriable() or error.code() in PASSING | UNSENT else DeliveryFailed
