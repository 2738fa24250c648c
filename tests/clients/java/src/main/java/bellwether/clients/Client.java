// The Java client of Apache Kafka under the contract of README.md, by assignment and in groups.
package bellwether.clients;

import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Client {
    private Client() {}

    public static void main(String[] args) throws Exception {
        Contract contract = new Contract(args);
        contract.versions("kafka-clients " + version() + ", Java " + Runtime.version().feature());
        switch (contract.text("mode")) {
            case "produce" -> produce(contract);
            case "consume" -> consume(contract);
            case "member" -> member(contract);
            default -> throw new IllegalArgumentException("--mode " + contract.text("mode"));
        }
        contract.done();
    }

    private static String version() throws IOException {
        Properties told = new Properties();
        try (InputStream file = KafkaProducer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            told.load(file);
        }
        return told.getProperty("version");
    }

    private static Map<String, Object> patient(Contract contract) {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", contract.text("bootstrap"));
        settings.put("reconnect.backoff.ms", 10);
        settings.put("reconnect.backoff.max.ms", 200);
        settings.put("retry.backoff.ms", 20);
        settings.put("retry.backoff.max.ms", 200);
        return settings;
    }

    private static void produce(Contract contract) throws Exception {
        boolean idempotent = contract.text("idempotence").equals("on");
        Map<String, Object> settings = patient(contract);
        settings.put("acks", "all");
        settings.put("enable.idempotence", idempotent);
        // Without idempotence a record that is sent again must not overtake another.
        settings.put("max.in.flight.requests.per.connection", idempotent ? 5 : 1);
        settings.put("compression.type", contract.text("compression"));
        settings.put("linger.ms", 5);
        settings.put("delivery.timeout.ms", 90_000);
        settings.put("request.timeout.ms", 10_000);
        String topic = contract.text("topic");
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            contract.records(record -> {
                List<Header> headers = new ArrayList<>();
                record.headers().forEach(h -> headers.add(new RecordHeader(h.name(), h.value().getBytes())));
                producer.send(
                        new ProducerRecord<>(topic, record.partition(), record.key(), record.value(), headers),
                        (told, error) -> {
                            if (error != null) {
                                contract.failed(record.number(), error);
                            } else {
                                contract.acknowledged(record.number(), told.partition(), told.offset());
                            }
                        });
            });
            producer.flush();
        }
    }

    private static void consume(Contract contract) throws Exception {
        CountDownLatch told = untilTold();
        Map<String, Object> settings = patient(contract);
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "none");
        settings.put("fetch.max.wait.ms", 50);
        String topic = contract.text("topic");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int partition = 0; partition < contract.number("partitions"); partition++) {
                partitions.add(new TopicPartition(topic, partition));
            }
            consumer.assign(partitions);
            Map<TopicPartition, Long> beginnings = consumer.beginningOffsets(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            for (TopicPartition partition : partitions) {
                contract.inRange(partition.partition(), beginnings.get(partition), ends.get(partition));
                consumer.seek(partition, beginnings.get(partition));
            }
            while (told.getCount() > 0) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(100))) {
                    contract.read(record.partition(), record.offset(), record.key(), record.value(), headers(record));
                }
                contract.flush();
            }
        }
    }

    private static List<Contract.Pair> headers(ConsumerRecord<byte[], byte[]> record) {
        List<Contract.Pair> headers = new ArrayList<>();
        record.headers().forEach(h -> headers.add(new Contract.Pair(h.key(), new String(h.value()))));
        return headers;
    }

    private static void member(Contract contract) throws Exception {
        CountDownLatch told = untilTold();
        Map<String, Object> settings = patient(contract);
        settings.put("group.id", contract.text("group"));
        settings.put("group.protocol", contract.text("protocol"));
        if (contract.text("protocol").equals("classic")) {
            settings.put("session.timeout.ms", contract.number("session"));
            settings.put("heartbeat.interval.ms", contract.number("session") / 10);
        }
        settings.put("enable.auto.commit", false);
        settings.put("auto.offset.reset", "earliest");
        settings.put("max.poll.records", 100);
        settings.put("fetch.max.wait.ms", 50);
        String topic = contract.text("topic");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            Map<TopicPartition, OffsetAndMetadata> due = new HashMap<>();
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                    // They are read again from the offset that is committed, here or by another member.
                    due.keySet().removeAll(revoked);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> assigned) {}
            });
            Set<Integer> before = null;
            while (told.getCount() > 0) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(100));
                Set<Integer> assigned = new TreeSet<>();
                consumer.assignment().forEach(partition -> assigned.add(partition.partition()));
                if (!assigned.equals(before)) {
                    contract.assigned(assigned);
                    before = assigned;
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    contract.process(record.partition(), record.offset(), record.key(), record.value(), headers(record));
                    due.put(new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                commit(contract, consumer, due);
            }
            Set<TopicPartition> partitions = new HashSet<>();
            for (int partition = 0; partition < contract.number("partitions"); partition++) {
                partitions.add(new TopicPartition(topic, partition));
            }
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.committed(partitions).forEach((partition, offset) ->
                    contract.lag(partition.partition(), offset == null ? -1 : offset.offset(), ends.get(partition)));
        }
    }

    private static void commit(Contract contract, KafkaConsumer<byte[], byte[]> consumer,
            Map<TopicPartition, OffsetAndMetadata> due) {
        if (due.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(due);
            due.forEach((partition, offset) -> contract.committed(partition.partition(), offset.offset()));
            due.clear();
        } catch (KafkaException e) {
            // A rebalance: the records come again, or are committed with the next.
            System.err.println("commit: " + e);
        }
    }

    /** Ends when standard input does: the harness has seen all that it waits for. */
    private static CountDownLatch untilTold() {
        CountDownLatch told = new CountDownLatch(1);
        Thread thread = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException e) {
                System.err.println(e);
            }
            told.countDown();
        });
        thread.setDaemon(true);
        thread.start();
        return told;
    }
}
