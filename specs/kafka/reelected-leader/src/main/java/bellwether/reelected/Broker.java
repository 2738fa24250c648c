package bellwether.reelected;

// Broker 0: Kafka's ReplicaManager with its real log, metadata cache and purgatories. Only the controller is played.

import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import kafka.cluster.Partition;
import kafka.server.KafkaConfig;
import kafka.server.ReplicaManager;
import kafka.server.builders.ReplicaManagerBuilder;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.metrics.Metrics;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.FetchRequest;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.metadata.KRaftMetadataCache;
import org.apache.kafka.metadata.LeaderAndIsr;
import org.apache.kafka.server.common.KRaftVersion;
import org.apache.kafka.server.common.RequestLocal;
import org.apache.kafka.server.partition.AlterPartitionManager;
import org.apache.kafka.server.quota.QuotaFactory;
import org.apache.kafka.server.storage.log.FetchIsolation;
import org.apache.kafka.server.storage.log.FetchParams;
import org.apache.kafka.server.storage.log.FetchPartitionData;
import org.apache.kafka.server.util.KafkaScheduler;
import org.apache.kafka.storage.internals.log.AppendOrigin;
import org.apache.kafka.storage.internals.log.LogDirFailureChannel;
import org.apache.kafka.storage.internals.log.LogManager;
import org.apache.kafka.storage.internals.log.UnifiedLog;
import org.apache.kafka.storage.log.metrics.BrokerTopicStats;
import scala.Tuple2;
import scala.jdk.javaapi.CollectionConverters;
import scala.runtime.BoxedUnit;

/** One broker, whose metadata, requests and clock come from the run. */
final class Broker implements AutoCloseable {
    static final TopicPartition PARTITION = new TopicPartition(Metadata.TOPIC, 0);
    static final TopicIdPartition ID_PARTITION = new TopicIdPartition(Metadata.TOPIC_ID, PARTITION);

    /** An ISR that this leader asked the controller for. */
    record Proposal(LeaderAndIsr asked, CompletableFuture<LeaderAndIsr> answer) { }

    private final ManualTime time = new ManualTime();
    private final Metrics metrics = new Metrics();
    private final KafkaScheduler scheduler = new KafkaScheduler(1);
    private final KRaftMetadataCache cache = new KRaftMetadataCache(0, () -> KRaftVersion.KRAFT_VERSION_1);
    private final LogManager logs;
    private final ReplicaManager replicas;
    private long metadataOffset = 0;
    private Proposal proposal = null;
    private String produced = "none sent";

    Broker(Path directory) {
        Properties settings = new Properties();
        settings.putAll(Map.of(
            "process.roles", "broker",
            "node.id", "0",
            "controller.quorum.voters", "3000@127.0.0.1:1",
            "controller.listener.names", "CONTROLLER",
            "listeners", "PLAINTEXT://127.0.0.1:0",
            "log.dirs", directory.toString()));
        KafkaConfig config = new KafkaConfig(settings, false);
        LogDirFailureChannel failures = new LogDirFailureChannel(1);
        BrokerTopicStats stats = new BrokerTopicStats();
        scheduler.startup();
        logs = kafka.log.LogManager.apply(config, java.util.Set.of(), cache, scheduler, time, stats, failures);
        replicas = new ReplicaManagerBuilder()
            .setConfig(config).setMetrics(metrics).setTime(time).setScheduler(scheduler).setLogManager(logs)
            .setQuotaManagers(QuotaFactory.instantiate(config, metrics, time, "broker-0-", "0"))
            .setMetadataCache(cache).setLogDirFailureChannel(failures).setBrokerTopicStats(stats)
            .setAlterPartitionManager(new Controller())
            .build();
    }

    /** Takes one delta over as BrokerMetadataPublisher does: first the cache, then ReplicaManager.applyDelta. */
    Metadata.Update learn(org.apache.kafka.common.protocol.ApiMessage... records) {
        MetadataImage before = cache.currentImage();
        metadataOffset += records.length;
        Metadata.Update update = Metadata.oneDelta(before, metadataOffset, records);
        cache.setImage(update.image());
        replicas.applyDelta(update.delta().topicsDelta(), update.image());
        return update;
    }

    /** A producer sends one record with acks=all; the answer, when it comes, shows in {@link #produced}. */
    void produce(String value) {
        produced = "waiting";
        MemoryRecords batch = MemoryRecords.withRecords(Compression.NONE, new SimpleRecord(value.getBytes()));
        replicas.appendRecords(600_000L, (short) -1, false, AppendOrigin.CLIENT,
            CollectionConverters.asScala(Map.of(ID_PARTITION, batch)),
            answers -> {
                var answer = answers.get(ID_PARTITION);
                produced = answer.error == Errors.NONE
                    ? "acknowledged at offset " + answer.baseOffset : "refused with " + answer.error;
                return BoxedUnit.UNIT;
            },
            stats -> BoxedUnit.UNIT, RequestLocal.noCaching(), CollectionConverters.asScala(new HashMap<>()), (short) -1);
    }

    /** A follower's fetch, through ReplicaManager.fetchMessages. Says what came back. */
    String fetch(int follower, int leaderEpoch, long offset, int lastFetchedEpoch) {
        FetchParams params = new FetchParams(follower, Metadata.BROKER_EPOCH + follower, 0, 1, 1 << 20,
            FetchIsolation.LOG_END, Optional.empty());
        FetchRequest.PartitionData asked = new FetchRequest.PartitionData(Metadata.TOPIC_ID, offset, 0, 1 << 20,
            Optional.of(leaderEpoch), lastFetchedEpoch < 0 ? Optional.empty() : Optional.of(lastFetchedEpoch));
        return read(params, asked);
    }

    /** A consumer reads from offset 0. */
    String consume() {
        FetchParams params = new FetchParams(-1, -1, 0, 1, 1 << 20, FetchIsolation.HIGH_WATERMARK, Optional.empty());
        return read(params, new FetchRequest.PartitionData(Metadata.TOPIC_ID, 0, -1, 1 << 20, Optional.empty()));
    }

    private String read(FetchParams params, FetchRequest.PartitionData asked) {
        CompletableFuture<FetchPartitionData> answer = new CompletableFuture<>();
        replicas.fetchMessages(params,
            CollectionConverters.asScala(List.of(new Tuple2<>(ID_PARTITION, asked))).toSeq(),
            QuotaFactory.UNBOUNDED_QUOTA,
            answers -> {
                answer.complete(answers.head()._2());
                return BoxedUnit.UNIT;
            });
        FetchPartitionData data = answer.getNow(null);
        if (data == null) {
            return "no answer";
        }
        int records = 0;
        for (var ignored : data.records.records()) {
            records++;
        }
        String diverging = data.divergingEpoch
            .map(d -> ", diverging: epoch " + d.epoch() + " ends at " + d.endOffset()).orElse("");
        return (data.error == Errors.NONE ? "" : data.error + ", ") + records + " record(s), high watermark "
            + data.highWatermark + diverging;
    }

    /** Time passes, and the leader looks for members of the ISR that lag (Kafka does so by timer). */
    void lag(long ms) {
        time.sleep(ms);
        partition().maybeShrinkIsr();
    }

    /** The pending proposal, if there is one. */
    Optional<Proposal> proposal() {
        return Optional.ofNullable(proposal);
    }

    /** The controller accepts what was proposed. */
    void accept() {
        Proposal accepted = proposal;
        proposal = null;
        accepted.answer().complete(accepted.asked().withPartitionEpoch(accepted.asked().partitionEpoch() + 1));
    }

    Partition partition() {
        return replicas.onlinePartition(PARTITION).get();
    }

    long highWatermark() {
        UnifiedLog log = partition().log().get();
        return log.highWatermark();
    }

    /** What the producer has been told. */
    String produced() {
        return produced;
    }

    /** The log end offset of a follower as this leader believes it; empty if it has none on its books. */
    Optional<Long> believed(int follower) {
        var replica = partition().getReplica(follower);
        return replica.isEmpty() ? Optional.empty() : Optional.of(replica.get().stateSnapshot().logEndOffset());
    }

    /** One line about the partition. */
    String state() {
        Partition p = partition();
        String ends = IntStream.of(1, 2)
            .mapToObj(id -> id + ": " + believed(id).map(end -> end < 0 ? "unknown" : end.toString()).orElse("-"))
            .collect(Collectors.joining(", "));
        var isr = new TreeSet<>(p.partitionState().isr());
        var maximal = new TreeSet<>(p.partitionState().maximalIsr());
        return String.format("%s, epoch %d, log end %d | followers' log ends {%s} | ISR %s | high watermark %d | produce: %s",
            p.isLeader() ? "leader" : "follower", p.getLeaderEpoch(), p.log().get().logEndOffset(), ends,
            isr.equals(maximal) ? isr : isr + " (maximal " + maximal + ")", highWatermark(), produced);
    }

    @Override
    public void close() throws Exception {
        replicas.shutdown(false);
        logs.shutdown();
        scheduler.shutdown();
        metrics.close();
    }

    /** Takes proposals; the run answers them. */
    private final class Controller implements AlterPartitionManager {
        @Override
        public void start() { }

        @Override
        public void shutdown() { }

        @Override
        public CompletableFuture<LeaderAndIsr> submit(org.apache.kafka.server.common.TopicIdPartition partition,
                                                      LeaderAndIsr asked) {
            proposal = new Proposal(asked, new CompletableFuture<>());
            return proposal.answer();
        }
    }
}
