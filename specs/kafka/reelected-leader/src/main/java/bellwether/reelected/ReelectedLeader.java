package bellwether.reelected;

// The exchange, step by step, against Kafka's own broker code, with its controls and a verdict.

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.TreeSet;
import org.apache.kafka.common.metadata.PartitionChangeRecord;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.utils.internals.AppInfoParser;
import org.apache.kafka.image.LocalReplicaChanges;

/** Runs the exchange four times: re-elected without and with noticing the leader between, in two forms. */
public final class ReelectedLeader {
    private static final long LAG_MS = 30_001;

    /** What a run ended with: the high watermark, what leader 0 believes of broker 1, and what the producer was told. */
    private record End(long highWatermark, long believed, String produced) { }

    private ReelectedLeader() { }

    /** Prints the steps, then one line: confirmed or refuted. Ends with status 2 if a control did not do as it must. */
    public static void main(String[] args) throws Exception {
        System.out.println("Apache Kafka " + AppInfoParser.getVersion() + ", Java " + Runtime.version().feature());
        End fenced = run("A. epochs 1 and 2 in one delta; the controller has fenced 2, so the ISR of epoch 2 is {0,1}", true, true);
        End fencedControl = run("B. control of A: the same records in two deltas, so 0 follows 2 in between", true, false);
        End shrunk = run("C. epochs 1 and 2 in one delta, ISR {0,1,2}; the leader shrinks 2 out of it itself", false, true);
        End shrunkControl = run("D. control of C: the same records in two deltas", false, false);

        boolean controls = List.of(fencedControl, shrunkControl).stream()
            .allMatch(end -> end.highWatermark() == 0 && end.believed() == -1 && !end.produced().startsWith("ack"));
        System.out.println();
        if (!controls) {
            System.out.println("no verdict: a control run raised the high watermark, or kept a follower's log end");
            System.exit(2);
        }
        for (var form : List.of(List.of("A", fenced), List.of("C", shrunk))) {
            End end = (End) form.get(1);
            boolean kept = end.believed() == 1 && end.highWatermark() == 1;
            System.out.printf("%s: in run %s the high watermark is %d after epochs 0 -> 2 in one delta, before any fetch of epoch 2;"
                    + " broker 1's log end is %s; produce with acks=all: %s%n",
                kept ? "confirmed" : "refuted", form.get(0), end.highWatermark(),
                end.believed() < 0 ? "unknown" : "still " + end.believed(), end.produced());
        }
        System.exit(0);
    }

    private static End run(String title, boolean fenced, boolean merged) throws Exception {
        System.out.println();
        System.out.println(title);
        Path directory = Files.createTempDirectory("reelected-leader");
        try (Broker zero = new Broker(directory)) {
            zero.learn(Metadata.beginning());
            step("0 is made leader", zero);
            zero.produce("r");
            step("a producer sends r with acks=all", zero);
            step("1 fetches at 0: " + zero.fetch(1, 0, 0, -1), zero);
            step("2 fetches at 0 (it is slow to append r): " + zero.fetch(2, 0, 0, -1), zero);
            step("1 fetches at 1, so 0 knows that it has r: " + zero.fetch(1, 0, 1, 0), zero);

            PartitionChangeRecord away = Metadata.leader(2);
            ApiMessage[] back = fenced
                ? new ApiMessage[] {Metadata.fence(2), Metadata.leader(0).setIsr(List.of(0, 1))}
                : new ApiMessage[] {Metadata.leader(0)};
            if (merged) {
                ApiMessage[] all = new ApiMessage[back.length + 1];
                all[0] = away;
                System.arraycopy(back, 0, all, 1, back.length);
                changes(zero.learn(all));
                step("0 learns of epochs 1 and 2 at once", zero);
            } else {
                changes(zero.learn(away));
                step("0 learns of epoch 1: it follows 2", zero);
                changes(zero.learn(back));
                step("0 learns of epoch 2: it leads again", zero);
            }
            if (!fenced) {
                zero.lag(LAG_MS);
                step(LAG_MS + " ms pass without a fetch; 0 proposes "
                    + zero.proposal().map(p -> "the ISR " + new TreeSet<>(p.asked().isr())).orElse("nothing"), zero);
                if (zero.proposal().isPresent()) {
                    zero.accept();
                    step("the controller accepts", zero);
                }
            }
            End end = new End(zero.highWatermark(), zero.believed(1).orElse(-1L), zero.produced());
            step("a consumer reads at 0: " + zero.consume(), zero);
            step("1, which followed 2 in epoch 1 and truncated r, fetches at 0 in epoch 2: " + zero.fetch(1, 2, 0, -1), zero);
            return end;
        } finally {
            try (var files = Files.walk(directory)) {
                files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
            }
        }
    }

    /** What TopicsDelta.localChanges tells broker 0 of a delta. */
    private static void changes(Metadata.Update update) {
        LocalReplicaChanges changes = update.delta().topicsDelta().localChanges(0);
        System.out.println("    localChanges(0): leaders " + epochs(changes.leaders()) + ", elected "
            + epochs(changes.electedLeaders()) + ", followers " + epochs(changes.followers()));
    }

    private static String epochs(java.util.Map<?, LocalReplicaChanges.PartitionInfo> some) {
        return some.values().stream()
            .map(info -> "leader " + info.partition().leader + " at epoch " + info.partition().leaderEpoch).toList().toString();
    }

    private static void step(String what, Broker broker) {
        System.out.println("  " + what);
        System.out.println("    " + broker.state());
    }
}
