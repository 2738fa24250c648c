"""librdkafka's mock cluster in a process of its own: `mock.py LIBRARY BROKERS PARTITIONS` serves one topic, `bench`.

The mock has no network address that can be chosen, so it prints `ready bootstrap=…` like our broker. The calls are those of
rdkafka.h and rdkafka_mock.h; the library is the one inside of confluent-kafka's wheel. Python itself does nothing after that.
"""

import ctypes
import sys

library, brokers, partitions = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rdkafka = ctypes.CDLL(library)
rdkafka.rd_kafka_new.restype = ctypes.c_void_p
rdkafka.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
rdkafka.rd_kafka_mock_cluster_new.argtypes = [ctypes.c_void_p, ctypes.c_int]
rdkafka.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
rdkafka.rd_kafka_mock_cluster_bootstraps.argtypes = [ctypes.c_void_p]
rdkafka.rd_kafka_mock_topic_create.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]

PRODUCER = 0
why = ctypes.create_string_buffer(512)
client = rdkafka.rd_kafka_new(PRODUCER, None, why, ctypes.c_size_t(len(why)))
if not client:
    sys.exit(why.value.decode())
cluster = rdkafka.rd_kafka_mock_cluster_new(client, brokers)
if not cluster:
    sys.exit("no mock cluster")
error = rdkafka.rd_kafka_mock_topic_create(cluster, b"bench", partitions, brokers)
if error:
    sys.exit(f"the topic cannot be created: {error}")
print("ready bootstrap=" + rdkafka.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
sys.stdin.read()
