// The Java client of Apache Kafka under the contract of README.md, by assignment.
package bellwether.clients;

import java.io.IOException;
import java.io.InputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
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
        if (contract.text("mode").equals("produce")) {
            produce(contract);
        } else {
            consume(contract);
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
                    List<Contract.Pair> headers = new ArrayList<>();
                    record.headers().forEach(h -> headers.add(new Contract.Pair(h.key(), new String(h.value()))));
                    contract.read(record.partition(), record.offset(), record.key(), record.value(), headers);
                }
                contract.flush();
            }
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
