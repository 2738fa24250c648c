package bellwether.reelected;

// The metadata log as a broker sees it: records go into Kafka's MetadataDelta, which gives the next MetadataImage.

import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.metadata.BrokerRegistrationChangeRecord;
import org.apache.kafka.common.metadata.ConfigRecord;
import org.apache.kafka.common.metadata.FeatureLevelRecord;
import org.apache.kafka.common.metadata.PartitionChangeRecord;
import org.apache.kafka.common.metadata.PartitionRecord;
import org.apache.kafka.common.metadata.RegisterBrokerRecord;
import org.apache.kafka.common.metadata.TopicRecord;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.security.auth.SecurityProtocol;
import org.apache.kafka.image.MetadataDelta;
import org.apache.kafka.image.MetadataImage;
import org.apache.kafka.image.MetadataProvenance;
import org.apache.kafka.metadata.BrokerRegistrationFencingChange;
import org.apache.kafka.server.common.MetadataVersion;

/** Builds the records of the exchange, and deltas and images of them with Kafka's own classes. */
final class Metadata {
    static final String TOPIC = "t";
    static final Uuid TOPIC_ID = new Uuid(7, 7);
    static final long BROKER_EPOCH = 100;

    /** A delta, and the image that comes out of it: what Kafka's metadata loader hands to its publishers. */
    record Update(MetadataDelta delta, MetadataImage image) { }

    private Metadata() { }

    /** One delta of all these records, as when a broker takes them over at once. */
    static Update oneDelta(MetadataImage before, long offset, ApiMessage... records) {
        MetadataDelta delta = new MetadataDelta.Builder().setImage(before).build();
        for (ApiMessage record : records) {
            delta.replay(record);
        }
        return new Update(delta, delta.apply(new MetadataProvenance(offset, 1, offset, true)));
    }

    /** Brokers 0, 1 and 2, unfenced; topic t with one partition: leader 0, epoch 0, ISR {0,1,2}, min.insync.replicas 2. */
    static ApiMessage[] beginning() {
        return new ApiMessage[] {
            new FeatureLevelRecord().setName(MetadataVersion.FEATURE_NAME)
                .setFeatureLevel(MetadataVersion.latestProduction().featureLevel()),
            register(0), register(1), register(2),
            new TopicRecord().setName(TOPIC).setTopicId(TOPIC_ID),
            new ConfigRecord().setResourceType(ConfigResource.Type.TOPIC.id()).setResourceName(TOPIC)
                .setName("min.insync.replicas").setValue("2"),
            new PartitionRecord().setTopicId(TOPIC_ID).setPartitionId(0).setReplicas(List.of(2, 0, 1))
                .setIsr(List.of(0, 1, 2)).setLeader(0).setLeaderEpoch(0).setPartitionEpoch(0),
        };
    }

    /** A record that names a leader; Kafka adds one to the leader epoch and to the partition epoch for it. */
    static PartitionChangeRecord leader(int leader) {
        return new PartitionChangeRecord().setTopicId(TOPIC_ID).setPartitionId(0).setLeader(leader);
    }

    /** The controller fences a broker. */
    static BrokerRegistrationChangeRecord fence(int broker) {
        return new BrokerRegistrationChangeRecord().setBrokerId(broker).setBrokerEpoch(BROKER_EPOCH + broker)
            .setFenced(BrokerRegistrationFencingChange.FENCE.value());
    }

    private static RegisterBrokerRecord register(int broker) {
        RegisterBrokerRecord.BrokerEndpointCollection endpoints = new RegisterBrokerRecord.BrokerEndpointCollection();
        // Port 1: nobody listens there, so the fetcher of the control run finds no leader to fetch from.
        endpoints.add(new RegisterBrokerRecord.BrokerEndpoint().setName("PLAINTEXT").setHost("127.0.0.1").setPort(1)
            .setSecurityProtocol(SecurityProtocol.PLAINTEXT.id));
        return new RegisterBrokerRecord().setBrokerId(broker).setBrokerEpoch(BROKER_EPOCH + broker)
            .setIncarnationId(new Uuid(9, broker + 1)).setEndPoints(endpoints).setFenced(false)
            .setLogDirs(List.of(new Uuid(11, broker + 1)));
    }
}
