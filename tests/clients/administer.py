"""Changes a topic's configuration and its leaders with confluent-kafka's AdminClient, and checks what it is told.

It creates a topic of one partition on three brokers. One JSON array a line on standard output:
  ["described", value, source]     min.insync.replicas before any change
  ["altered", value, source]       and after it was set
  ["kept", value]                  retention.ms, which was not touched
  ["refused", error]               a value that is none
  ["elected", error]               the preferred leader, which leads already
  ["broker", value]                num.partitions of the first broker
  ["done"]
"""

import json
import sys
import time

from confluent_kafka import ElectionType, KafkaException, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewTopic,
                                   ResourceType)

TOPIC = "administered"


def tell(*what):
    print(json.dumps(what), flush=True)


def describe(admin, kind, name):
    resource = ConfigResource(kind, name)
    return admin.describe_configs([resource])[resource].result(timeout=20)


def min_isr(admin):
    entry = describe(admin, ResourceType.TOPIC, TOPIC)["min.insync.replicas"]
    return entry.value, ConfigSource(entry.source).name


def alter(admin, name, value):
    change = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, TOPIC, incremental_configs=[change])
    return admin.incremental_alter_configs([resource])[resource].result(timeout=20)


def main():
    admin = AdminClient({"bootstrap.servers": sys.argv[1]})
    admin.create_topics([NewTopic(TOPIC, 1, 3)], operation_timeout=20)[TOPIC].result(timeout=30)
    tell("described", *min_isr(admin))
    alter(admin, "min.insync.replicas", "2")
    deadline = time.monotonic() + 20
    # Each broker learns of it from the metadata log, at its own pace.
    while min_isr(admin)[0] != "2" and time.monotonic() < deadline:
        time.sleep(0.02)
    tell("altered", *min_isr(admin))
    tell("kept", describe(admin, ResourceType.TOPIC, TOPIC)["retention.ms"].value)
    try:
        alter(admin, "min.insync.replicas", "none")
        tell("refused", None)
    except KafkaException as refused:
        tell("refused", refused.args[0].name())
    result = admin.elect_leaders(ElectionType.PREFERRED, [TopicPartition(TOPIC, 0)]).result(timeout=20)
    error = result[TopicPartition(TOPIC, 0)]
    tell("elected", error and error.name())
    broker = min(admin.list_topics(timeout=10).brokers)
    tell("broker", describe(admin, ResourceType.BROKER, str(broker))["num.partitions"].value)
    tell("done")


main()
