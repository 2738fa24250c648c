package bellwether.reelected;

// The same exchange on a real cluster: one controller and three brokers as processes; only signals, an admin and clients.

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.requests.AbstractResponse;
import org.apache.kafka.common.requests.ElectLeadersRequest;
import org.apache.kafka.common.requests.ElectLeadersResponse;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.common.utils.internals.AppInfoParser;

/** Acknowledges a record with acks=all and min.insync.replicas=2, and looks for it after one leader has failed. */
public final class RealNodes {
    private static final TopicPartition PARTITION = new TopicPartition("t", 0);
    private static final long BEGAN = System.nanoTime();

    private RealNodes() { }

    /**
     * Prints the steps, what the nodes said of themselves, and one line: confirmed or refuted. With the argument
     * {@code control}, broker 0 learns of each epoch by itself: then nothing may be lost.
     */
    public static void main(String[] args) throws Exception {
        Path root = Files.createTempDirectory("reelected-leader-nodes");
        int[] ports = freePorts(4);
        String voters = "3000@127.0.0.1:" + ports[3];
        String clusterId = Uuid.randomUuid().toString();
        String classPath = classPath();
        System.out.println("Apache Kafka " + AppInfoParser.getVersion() + ", one controller and three brokers, each a process");
        List<Node> nodes = new ArrayList<>();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> nodes.forEach(Node::close)));
        try {
            for (int id = 0; id < 3; id++) {
                nodes.add(new Node(root, "broker-" + id, clusterId, settings(id, "broker", voters, ports[id]), classPath));
            }
            nodes.add(new Node(root, "controller", clusterId, settings(3000, "controller", voters, ports[3]), classPath));
            for (Node node : nodes) {
                node.start();
            }
            String bootstrap = Stream.of(ports[0], ports[1], ports[2]).map(p -> "127.0.0.1:" + p).collect(Collectors.joining(","));
            exchange(nodes.get(0), nodes.get(1), nodes.get(2), nodes.get(3), bootstrap, ports[0], ports[1],
                args.length > 0 && args[0].equals("control"));
            nodes.forEach(Node::close);
            try (var files = Files.walk(root)) {
                files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
            }
        } catch (Exception e) {
            System.out.println("no verdict: " + e + "; logs and data are in " + root);
            nodes.forEach(Node::close);
            System.exit(2);
        }
        System.exit(0);
    }

    private static void exchange(Node zero, Node one, Node two, Node controller, String bootstrap, int portZero,
                                 int portOne, boolean control) throws Exception {
        Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        KafkaProducer<String, String> producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap, "acks", "all"),
            new StringSerializer(), new StringSerializer());
        // Closed at once, also when a step failed: the nodes that could answer may be stopped then.
        try (AutoCloseable closing = () -> {
            producer.close(Duration.ZERO);
            admin.close(Duration.ZERO);
        }) {
            Node.until("three brokers are up", () -> brokers(admin) == 3);
            admin.createTopics(List.of(new NewTopic("t", Map.of(0, List.of(0, 1, 2))).configs(Map.of("min.insync.replicas", "2"))))
                .all().get();
            Node.until("0 leads with all three in the ISR", () -> leader(admin) == 0 && isr(admin).size() == 3);
            say("finalized features: " + admin.describeFeatures().featureMetadata().get().finalizedFeatures().entrySet().stream()
                .filter(f -> f.getKey().equals("metadata.version") || f.getKey().startsWith("eligible"))
                .map(f -> f.getKey() + "=" + f.getValue().maxVersionLevel()).sorted().collect(Collectors.joining(", ")));
            admin.alterPartitionReassignments(Map.of(PARTITION, Optional.of(new NewPartitionReassignment(List.of(2, 0, 1))))).all().get();
            Node.until("the preferred leader is 2, the leader still 0", () -> replicas(admin).equals(List.of(2, 0, 1)) && leader(admin) == 0);
            say("topic t: replicas [2, 0, 1], leader 0, ISR [0, 1, 2], min.insync.replicas 2, no unclean election");

            RecordMetadata first = send(producer, "first").get(60, TimeUnit.SECONDS);
            Node.until("all three have it", () -> bytes(zero) == bytes(one) && bytes(zero) == bytes(two) && bytes(zero) > 0);
            say("acks=all: \"first\" is acknowledged at offset " + first.offset() + "; log bytes " + bytes(zero, one, two));

            two.signal("STOP");
            say("STOP 2, and wait until 0 has answered its waiting fetch");
            Thread.sleep(1_500);
            long before = bytes(zero);
            Future<RecordMetadata> r = send(producer, "r");
            Node.until("0 and 1 have r", () -> bytes(zero) > before && bytes(one) == bytes(zero));
            Thread.sleep(1_200);
            say("acks=all: \"r\" is sent; 0 and 1 have appended it, 1 fetches on; log bytes " + bytes(zero, one, two)
                + "; acknowledged: " + r.isDone());
            zero.signal("STOP");
            say("STOP 0, and wait until the controller has answered its waiting fetch");
            Thread.sleep(1_500);
            electPreferred(portOne);
            one.waitFor("Follower t-0 starts at leader epoch 1");
            say("the preferred leader is elected: 2, in epoch 1; 1 knows, 0 is stopped; acknowledged: " + r.isDone());
            two.signal("CONT");
            two.waitFor("Leader t-0", "leader epoch 1 ");
            one.waitFor("partition=t-0", "Truncating to offset 1");
            one.signal("STOP");
            say("CONT 2: it leads; 1 follows it and truncates r; STOP 1; log bytes " + bytes(zero, one, two)
                + "; acknowledged: " + r.isDone());
            if (control) {
                zero.signal("CONT");
                zero.waitFor("Follower t-0 starts at leader epoch 1");
                say("control: CONT 0 already, so it learns of epoch 1 by itself and follows 2");
            }
            two.signal("TERM");
            controller.waitFor("Replayed BrokerRegistrationChangeRecord", "broker 2:", "inControlledShutdown=1");
            two.signal("KILL");
            say("TERM 2: the controlled shutdown moves the leader to 0, epoch 2; KILL 2");
            if (!control) {
                zero.signal("CONT");
            }
            zero.waitFor("Leader t-0", "leader epoch 2 ");
            say("0 runs, and learns that it leads in epoch 2");
            if (control) {
                Thread.sleep(3_000);
                say("control: 1 is stopped still; acknowledged: " + r.isDone() + "; CONT 1");
                one.signal("CONT");
            }
            RecordMetadata acknowledged = r.get(120, TimeUnit.SECONDS);
            String seen = read("127.0.0.1:" + portZero, acknowledged.offset());
            say("acks=all: \"r\" is acknowledged at offset " + acknowledged.offset() + "; a consumer reads offset "
                + acknowledged.offset() + ": " + seen + "; log bytes " + bytes(zero, one, two));
            zero.signal("KILL");
            if (!control) {
                one.signal("CONT");
            }
            say("KILL 0" + (control ? "" : "; CONT 1"));
            one.waitFor("Leader t-0", "leader epoch 3 ");
            two.start();
            zero.start();
            Node.until("1 leads with all three in the ISR", () -> leader(admin) == 1 && isr(admin).size() == 3);
            RecordMetadata later = send(producer, "later").get(60, TimeUnit.SECONDS);
            Node.until("all three have it", () -> bytes(zero) == bytes(one) && bytes(zero) == bytes(two));
            say("1 leads in epoch 3; 0 and 2 are back, the ISR is complete; acks=all: \"later\" is acknowledged at offset " + later.offset());
            String now = read(bootstrap, acknowledged.offset());
            say("a consumer reads offset " + acknowledged.offset() + " now: " + now + "; log bytes " + bytes(zero, one, two));

            System.out.println();
            System.out.println("What the nodes wrote of it:");
            quote("0", zero.said("Leader t-0", "starts at"));
            quote("0", zero.said("Follower t-0", "starts at"));
            quote("1", one.said("partition=t-0", "Truncating to offset"));
            quote("1", one.said("Leader t-0", "starts at"));
            quote("0", zero.said("partition=t-0", "Truncating"));
            System.out.println();
            boolean noticed = !zero.said("Follower t-0 starts at leader epoch 1").isEmpty();
            String told = "\"r\" was acknowledged at offset " + acknowledged.offset() + " (acks=all, min.insync.replicas=2); a consumer read "
                + seen + " there, and reads " + now + " now; 0 " + (noticed ? "noticed" : "never noticed") + " epoch 1";
            boolean lost = !now.contains("\"r\"");
            if (noticed != control) {
                throw new IllegalStateException("not the exchange that was meant: " + told);
            }
            System.out.println((lost ? "confirmed: the cluster lost an acknowledged record: " : "refuted: nothing was lost: ") + told);
        }
    }

    /** ElectLeaders, sent to broker 1, which forwards it. Kafka's admin client would pick a broker at random, a stopped one too. */
    private static void electPreferred(int portOne) throws Exception {
        ElectLeadersRequest request = new ElectLeadersRequest.Builder(ElectionType.PREFERRED, List.of(PARTITION), 10_000).build();
        RequestHeader header = new RequestHeader(ApiKeys.ELECT_LEADERS, request.version(), "reelected-leader", 1);
        ByteBuffer body = request.serializeWithHeader(header);
        try (Socket socket = new Socket("127.0.0.1", portOne)) {
            socket.setSoTimeout(30_000);
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            out.writeInt(body.remaining());
            out.write(body.array(), body.arrayOffset() + body.position(), body.remaining());
            out.flush();
            DataInputStream in = new DataInputStream(socket.getInputStream());
            ElectLeadersResponse response = (ElectLeadersResponse) AbstractResponse.parseResponse(
                ByteBuffer.wrap(in.readNBytes(in.readInt())), header);
            Optional<Throwable> failed = ElectLeadersResponse.electLeadersResult(response.data())
                .getOrDefault(PARTITION, Optional.empty());
            if (failed.isPresent() || response.data().errorCode() != 0) {
                throw new IllegalStateException("no election: " + response.data());
            }
        }
    }

    private static Properties settings(int id, String role, String voters, int port) {
        Properties all = new Properties();
        String listener = role.equals("controller") ? "CONTROLLER" : "PLAINTEXT";
        all.putAll(Map.of(
            "node.id", Integer.toString(id),
            "process.roles", role,
            "controller.quorum.voters", voters,
            "controller.listener.names", "CONTROLLER",
            "listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "listeners", listener + "://127.0.0.1:" + port,
            // The defaults are 9 s, and an election of the preferred leader every 300 s. The run must not depend on when
            // those strike: a stopped broker is to stay in the cluster for the few seconds that the steps take.
            "broker.session.timeout.ms", "30000",
            "auto.leader.rebalance.enable", "false"));
        return all;
    }

    private static Future<RecordMetadata> send(KafkaProducer<String, String> producer, String value) {
        return producer.send(new ProducerRecord<>("t", 0, null, value));
    }

    /** What a consumer finds at the offset, or nothing within ten seconds. */
    private static String read(String bootstrap, long offset) {
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap,
                 "auto.offset.reset", "none"), new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(List.of(PARTITION));
            consumer.seek(PARTITION, offset);
            long end = System.nanoTime() + 10_000_000_000L;
            while (System.nanoTime() < end) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    return "\"" + record.value() + "\" (epoch " + record.leaderEpoch().map(Object::toString).orElse("?") + ")";
                }
            }
            return "nothing";
        }
    }

    private static int brokers(Admin admin) {
        try {
            return admin.describeCluster().nodes().get(10, TimeUnit.SECONDS).size();
        } catch (Exception e) {
            return -1;
        }
    }

    private static Optional<TopicPartitionInfo> partition(Admin admin) {
        try {
            return Optional.of(admin.describeTopics(List.of("t")).allTopicNames().get(10, TimeUnit.SECONDS).get("t").partitions().get(0));
        } catch (Exception e) {
            return Optional.empty();
        }
    }

    private static int leader(Admin admin) {
        return partition(admin).map(p -> p.leader() == null ? -1 : p.leader().id()).orElse(-1);
    }

    private static List<Integer> isr(Admin admin) {
        return partition(admin).map(p -> p.isr().stream().map(n -> n.id()).toList()).orElse(List.of());
    }

    private static List<Integer> replicas(Admin admin) {
        return partition(admin).map(p -> p.replicas().stream().map(n -> n.id()).toList()).orElse(List.of());
    }

    private static long bytes(Node node) {
        try {
            return node.logBytes();
        } catch (IOException e) {
            return -1;
        }
    }

    private static String bytes(Node... nodes) {
        return Stream.of(nodes).map(node -> Long.toString(bytes(node))).collect(Collectors.joining("/"));
    }

    private static void say(String what) {
        System.out.printf("%5.1f s  %s%n", (System.nanoTime() - BEGAN) / 1e9, what);
    }

    private static void quote(String node, List<String> lines) {
        lines.forEach(line -> System.out.println("  " + node + ": " + line.replaceAll(", dir=[^\\]]*|with topic id \\S+ ", "")));
    }

    private static int[] freePorts(int count) throws IOException {
        int[] ports = new int[count];
        List<ServerSocket> open = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ServerSocket socket = new ServerSocket(0);
            open.add(socket);
            ports[i] = socket.getLocalPort();
        }
        for (ServerSocket socket : open) {
            socket.close();
        }
        return ports;
    }

    /** The class path of this program, also when Maven runs it with a class loader of its own. */
    private static String classPath() {
        if (RealNodes.class.getClassLoader() instanceof URLClassLoader loader) {
            return Stream.of(loader.getURLs()).map(url -> new File(url.getPath()).getPath())
                .collect(Collectors.joining(File.pathSeparator));
        }
        return System.getProperty("java.class.path");
    }
}
