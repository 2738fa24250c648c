//! The registries: every rule and every invariant has one permanent id, here and nowhere else.
//!
//! A **rule** is a guard of the protocol: switched off, it is a mutant. An **invariant** is what the rules are for. The
//! prose that explains each is in `specs/`, under the same id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Who notices when a rule is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judge {
    /// The model has the rule, and a mutant without it breaks an invariant.
    Model,
    /// The same, and so far nobody else has the rule: the broker has no guard for it.
    ModelAlone,
    /// Tests of the broker: the model does not have what the rule is about.
    Test,
}

/// How an invariant is judged over all reachable states.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// True in every state, in the configurations that its spec names.
    Always,
    /// Reached in some state: a witness that something can happen.
    Sometimes,
    /// Reached from every state once nothing more goes wrong.
    Convergence,
}

macro_rules! registry {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[doc = $doc:literal])* $variant:ident = $id:literal, $extra:expr, $source:literal;)* } $extra_fn:ident: $extra_ty:ty) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[doc = $doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the registry.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The permanent id.
            pub fn id(self) -> &'static str {
                match self { $($name::$variant => $id,)* }
            }

            /// What it says, in one sentence.
            pub fn statement(self) -> &'static str {
                match self { $($name::$variant => concat!($($doc,)*).trim_ascii(),)* }
            }

            /// Where it comes from: a KIP, a JIRA or a file of Kafka.
            pub fn source(self) -> &'static str {
                match self { $($name::$variant => $source,)* }
            }

            #[allow(missing_docs, reason = "named by its type")]
            pub fn $extra_fn(self) -> $extra_ty {
                match self { $($name::$variant => $extra,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.id())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(s: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|r| r.id() == s).ok_or_else(|| {
                    let all: Vec<_> = Self::ALL.iter().map(|r| r.id()).collect();
                    format!("no {} '{s}'; there are {}", $what, all.join(", "))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(self.id())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

registry! {
    /// A guard of the protocol. Switched off, it is a mutant.
    Rule, "rule" {
        /// A leader refuses a fetch whose leader epoch is not its own.
        FetchLeaderEpoch = "fetch.leader-epoch", Judge::Model, "KIP-320, Partition.scala";
        /// A leader refuses a fetch of an earlier incarnation of a broker.
        FetchBrokerEpoch = "fetch.broker-epoch", Judge::Model, "KIP-903, KAFKA-15221";
        /// A leader answers a follower whose last epoch ends elsewhere in its own log with the point of divergence, and the follower truncates by epoch, never by high watermark.
        TruncateByEpoch = "truncate.by-epoch", Judge::Model, "KIP-101, KAFKA-1211";
        /// The point of divergence is an epoch and its end, and the follower looks that epoch up in its own log before it truncates.
        TruncateCommonEpoch = "truncate.common-epoch", Judge::Model, "KIP-279, KAFKA-6361";
        /// A fetch that diverges does not move the leader's idea of where the follower's log ends.
        FetchDivergingNoUpdate = "fetch.diverging-no-update", Judge::Model, "KAFKA-13141";
        /// A follower drops a response to a request of another leader epoch.
        FetchResponseEpoch = "fetch.response-epoch", Judge::Model, "KAFKA-18991, KIP-320";
        /// A follower drops a response to a request for another offset than its log end.
        FetchResponseOffset = "fetch.response-offset", Judge::Model, "KAFKA-18991";
        /// A follower drops a response to a request that named another last epoch than its log has now.
        FetchResponseLastEpoch = "fetch.response-last-epoch", Judge::Model, "KAFKA-18991, AbstractFetcherThread.scala";
        /// A new leader epoch forgets where the followers' logs ended in the one before, even if the leader stays.
        LeaderForgetsFollowers = "leader.forgets-followers", Judge::Model, "KIP-320, Partition.makeLeader";
        /// The high watermark is at most the log end of every replica that counts.
        HighWatermarkReplicated = "high-watermark.replicated", Judge::Model, "Partition.maybeIncrementLeaderHW";
        /// The start of a log never passes its high watermark.
        LogStartBelowHighWatermark = "log-start.below-high-watermark", Judge::Test, "KAFKA-5634, UnifiedLog.maybeIncrementLogStartOffset";
        /// Until the outcome of a proposed ISR is known, the replicas of both the old and the new ISR count.
        HighWatermarkMaximalIsr = "high-watermark.maximal-isr", Judge::Model, "KIP-497";
        /// The high watermark stands still while the committed ISR is smaller than min.insync.replicas.
        HighWatermarkMinIsr = "high-watermark.min-isr", Judge::Model, "KIP-966, KAFKA-15583";
        /// A follower may join the ISR only if its log reaches the leader's high watermark.
        IsrExpandHighWatermark = "isr.expand-high-watermark", Judge::Model, "Partition.isFollowerInSync";
        /// A follower may join the ISR only if its log reaches the start of the leader's epoch.
        IsrExpandEpochStart = "isr.expand-epoch-start", Judge::Model, "KAFKA-7128";
        /// A leader proposes no broker for the ISR that is fenced or in controlled shutdown.
        IsrExpandUnfenced = "isr.expand-unfenced", Judge::Model, "KIP-841, KAFKA-13916";
        /// A leader proposes a follower for the ISR only if its last fetch came from the incarnation that is registered.
        IsrExpandBrokerEpoch = "isr.expand-broker-epoch", Judge::Model, "KIP-903";
        /// The controller refuses an AlterPartition that starts from another partition epoch than the current one.
        AlterPartitionEpoch = "alter-partition.partition-epoch", Judge::Model, "KIP-497";
        /// The controller refuses an AlterPartition of another leader epoch than the current one.
        AlterPartitionLeaderEpoch = "alter-partition.leader-epoch", Judge::Model, "KIP-497";
        /// The controller refuses an ISR with a member of an earlier incarnation.
        AlterPartitionBrokerEpoch = "alter-partition.broker-epoch", Judge::Model, "KIP-903";
        /// The controller refuses an ISR with a member that is fenced or in controlled shutdown.
        AlterPartitionUnfenced = "alter-partition.unfenced", Judge::Model, "KIP-841";
        /// Without unclean.leader.election.enable only a member of the ISR becomes leader, or of the ELR, or the last known leader.
        ElectionInSync = "election.in-sync", Judge::Model, "PartitionChangeBuilder.java";
        /// Every election starts a new leader epoch.
        ElectionNewEpoch = "election.new-epoch", Judge::Model, "PartitionRegistration.java";
        /// A broker that registers anew leaves every ISR; without eligible leader replicas, every ISR of which it is not the last member.
        RegistrationLeavesIsr = "registration.leaves-isr", Judge::Model, "KIP-903, KIP-966";
        /// A broker that is fenced leaves every ISR, and leads nothing; without eligible leader replicas it stays as the last member.
        FencingLeavesIsr = "fencing.leaves-isr", Judge::Model, "KIP-841";
        /// A restarted broker takes on no role from metadata older than its own registration.
        RegistrationCatchUp = "registration.catch-up", Judge::Model, "KIP-631, BrokerLifecycleManager";
        /// Only a broker that names the broker epoch of its former life counts as cleanly stopped.
        RegistrationCleanProof = "registration.clean-proof", Judge::Model, "KIP-966, ClusterControlManager.java";
        /// Only a replica that leaves the ISR enters the ELR.
        ElrFromIsr = "elr.from-isr", Judge::Model, "KIP-966, PartitionChangeBuilder.java";
        /// The ELR is empty while the ISR has min.insync.replicas members.
        ElrBelowMinIsr = "elr.below-min-isr", Judge::Model, "KIP-966, PartitionChangeBuilder.java";
        /// A broker that registers after an unclean stop is in no ELR.
        ElrUncleanLeaves = "elr.unclean-leaves", Judge::Model, "KIP-966, KAFKA-18106";
        /// A member of the ELR is elected only when the ISR is empty.
        ElectionElrWhenIsrEmpty = "election.elr-when-isr-empty", Judge::Model, "KIP-966, PartitionChangeBuilder.java";
        /// When ISR and ELR are both empty, only the last known leader is elected, and only while it is unfenced.
        ElectionLastKnownLeader = "election.last-known-leader", Judge::Model, "KIP-966, KAFKA-19522";
        /// A broker in controlled shutdown leaves every ISR, and leads nothing; without eligible leader replicas it stays as the last member.
        ShutdownLeavesIsr = "shutdown.leaves-isr", Judge::Model, "KIP-841, BrokerHeartbeatManager.java";
        /// A reassignment removes replicas only when every replica that stays is in the ISR.
        ReassignmentInSync = "reassignment.in-sync", Judge::Model, "KIP-455, PartitionReassignmentReplicas.java";
        /// Whenever a replica is removed, a new leader epoch starts, also if the leader stays.
        ReassignmentNewEpoch = "reassignment.new-epoch", Judge::Model, "KIP-455, PartitionChangeBuilder.java";
        /// Only a replica of the partition is in the ELR.
        ElrAssigned = "elr.assigned", Judge::Model, "KIP-966, KIP-455";
        /// A change of min.insync.replicas is a new partition epoch, so that no ISR is decided that its leader wants under the old value.
        ConfigNewPartitionEpoch = "config.new-partition-epoch", Judge::Model, "KIP-966, ConfigurationControlManager.java";
        /// A change of min.insync.replicas leaves the ELR as it is while the ISR is below the new value.
        ConfigKeepsElr = "config.keeps-elr", Judge::Model, "KIP-966, ConfigurationControlManager.java";
        /// A produce with acks=all is answered when the high watermark has passed it.
        AckHighWatermark = "acks.all-high-watermark", Judge::Model, "Partition.checkEnoughReplicasReachOffset";
        /// A produce with acks=all is refused while the ISR is smaller than min.insync.replicas.
        AckMinIsr = "acks.min-isr", Judge::Model, "Partition.appendRecordsToLeader";
        /// Only the leader of a partition takes records.
        ProduceLeader = "produce.leader", Judge::Model, "Partition.appendRecordsToLeader";
        /// A consumer sees nothing above the high watermark.
        ReadHighWatermark = "read.high-watermark", Judge::Model, "KIP-392, Partition.fetchRecords";
        /// A replica refuses a consumer's fetch whose leader epoch is not its own.
        ReadLeaderEpoch = "read.leader-epoch", Judge::Model, "KIP-320, KIP-392";
        /// A follower shows records to consumers only when it has taken in an answer with records, or with none, in the present leader epoch.
        ReadFollowerInStep = "read.follower-in-step", Judge::Model, "KIP-392, KAFKA-14704";
        /// A consumer that learns of a new leader epoch reads on only when the leader has found its position in its log.
        ConsumerValidatePosition = "consumer.validate-position", Judge::Model, "KIP-320";
        /// A log has a consumer's position only if it has the epoch of the last record that the consumer has read.
        ConsumerCommonEpoch = "consumer.common-epoch", Judge::Model, "KIP-320, KIP-595";
        /// A batch that is among the last five of its producer is not appended again.
        IdempotenceWindow = "idempotence.window", Judge::Model, "KIP-98, ProducerStateEntry.java";
        /// A batch is appended only if its sequence follows the last one of its producer.
        IdempotenceSequence = "idempotence.sequence", Judge::Model, "KIP-98, ProducerAppendInfo.java";
        /// A leader remembers as many batches of a producer as it may have in flight: five.
        IdempotenceLastFive = "idempotence.last-five", Judge::Model, "KAFKA-5494, ProducerStateEntry.java";
        /// A follower remembers producers by the batches that it copies, so that it recognises them when it leads.
        IdempotenceFollowerState = "idempotence.follower-state", Judge::Model, "KIP-98, ProducerStateManager.java";
        /// A log that is cut forgets of its producers what was cut off.
        IdempotenceTruncation = "idempotence.truncation", Judge::Model, "KIP-98, UnifiedLog.truncateTo";
        /// The coordinator answers only when what it has appended for the answer is committed.
        CoordinatorReplyCommitted = "coordinator.reply-committed", Judge::Model, "CoordinatorRuntime.java";
        /// A coordinator answers nothing before it has read its partition of the offsets topic.
        CoordinatorLoadFirst = "coordinator.load-first", Judge::Model, "CoordinatorRuntime.java, CoordinatorLoaderImpl.scala";
        /// A heartbeat is refused if it names another member epoch than the member's own, or the one before.
        MemberEpoch = "member.epoch", Judge::Model, "KIP-848, GroupMetadataManager.java";
        /// A heartbeat of the epoch before is accepted only if its sender has nothing that is not assigned to it now.
        MemberPreviousOwned = "member.previous-owned", Judge::Model, "KIP-848, GroupMetadataManager.java";
        /// A member says what it has only when it has given up and taken what it was last told to.
        MemberReconciledOwned = "member.reconciled-owned", Judge::ModelAlone, "KIP-848, ConsumerHeartbeatRequestManager.java";
        /// When members come or go a new group epoch begins, so that there is a new target assignment.
        MemberNewGroupEpoch = "member.new-group-epoch", Judge::Model, "KIP-848, GroupMetadataManager.java";
        /// What a member had is free when it is removed.
        MemberRemovedFrees = "member.removed-frees", Judge::ModelAlone, "KIP-848, ConsumerGroup.java";
        /// A static member is replaced only when it has left.
        MemberInstanceUnreleased = "member.instance-unreleased", Judge::Model, "KIP-848, GroupMetadataManager.java";
        /// Whoever names an instance id that another member bears by now is refused.
        MemberInstanceFenced = "member.instance-fenced", Judge::Model, "KIP-345, KIP-848";
        /// A partition is free only when its member has said that it does not have it any more.
        AssignmentRevokeFirst = "assignment.revoke-first", Judge::Model, "KIP-848, CurrentAssignmentBuilder.java";
        /// A partition that another member has is not assigned.
        AssignmentReleaseFirst = "assignment.release-first", Judge::Model, "KIP-848, CurrentAssignmentBuilder.java";
        /// A member that is to give up partitions stays in its epoch until it has.
        AssignmentOldEpoch = "assignment.old-epoch", Judge::Model, "KIP-848, KAFKA-19974";
        /// A partition that a member was to give up, and keeps after all, stays its own.
        AssignmentPartitionEpoch = "assignment.partition-epoch", Judge::ModelAlone, "KAFKA-16147";
        /// A member of a KIP-848 group commits only under its present member epoch.
        OffsetsCommitEpoch = "offsets.commit-epoch", Judge::Model, "KIP-848, ConsumerGroup.java";
        /// A member of a classic group commits only under its present generation.
        OffsetsCommitGeneration = "offsets.commit-generation", Judge::Model, "ClassicGroup.java";
        /// Of a group with members only members commit.
        OffsetsCommitMember = "offsets.commit-member", Judge::Model, "ClassicGroup.java, ConsumerGroup.java";
        /// Nobody commits between the new generation and its assignment.
        OffsetsCommitCompleting = "offsets.commit-completing", Judge::Model, "ClassicGroup.java";
        /// Who asks for an offset is shown one that is committed in the log.
        OffsetsFetchCommitted = "offsets.fetch-committed", Judge::Model, "OffsetMetadataManager.java";
        /// No offset expires of a topic that members of the group are subscribed to.
        OffsetsExpireEmpty = "offsets.expire-empty", Judge::Model, "KIP-211, KAFKA-8069";
        /// When all have joined, a new generation begins.
        GroupNewGeneration = "group.new-generation", Judge::Model, "ClassicGroup.java";
        /// A SyncGroup of another generation than the present one is refused, the leader's too.
        GroupSyncGeneration = "group.sync-generation", Judge::Model, "GroupMetadataManager.java";
        /// A heartbeat of another generation than the present one is refused.
        GroupHeartbeatGeneration = "group.heartbeat-generation", Judge::Model, "GroupMetadataManager.java";
        /// An assignment that is committed counts only if the group still waits for it, in the same generation.
        GroupStableSameGeneration = "group.stable-same-generation", Judge::Model, "GroupMetadataManager.java";
        /// Dynamic members that have not joined when time is up are removed.
        GroupJoinDropsAbsent = "group.join-drops-absent", Judge::Model, "KIP-62, GroupMetadataManager.java";
        /// A static member that joins anew while the leader's assignment is missing begins another rebalance.
        GroupStaticJoinRebalances = "group.static-join-rebalances", Judge::Model, "KAFKA-9801, KIP-345";
    }
    judge: Judge
}

registry! {
    /// What the rules are for.
    Invariant, "invariant" {
        /// Two logs that have a record of the same epoch at the same offset are equal up to there.
        LogMatching = "replication.log-matching", Kind::Always, "KIP-101";
        /// The leader of the latest leader epoch has every record that a consumer read or that acks=all acknowledged.
        LeaderCompleteness = "replication.leader-completeness", Kind::Always, "KIP-966, Vanlightly/kafka-tlaplus";
        /// Every member of the controller's ISR has every record that a consumer read or that acks=all acknowledged.
        StrongIsr = "replication.strong-isr", Kind::Always, "hachikuji/kafka-specification StrongIsr";
        /// Every running member of the ISR or the ELR has every record that a consumer read or that acks=all acknowledged.
        LeaderCandidateCompleteness = "replication.leader-candidate-completeness", Kind::Always, "KIP-966, Vanlightly/kafka-tlaplus";
        /// No replica is in the ISR and in the ELR.
        ElrDisjoint = "replication.elr-disjoint", Kind::Always, "KIP-966, Vanlightly/kafka-tlaplus";
        /// Every member of the ISR that a leader of the latest epoch counts on has the records below that leader's high watermark.
        WeakIsr = "replication.weak-isr", Kind::Always, "hachikuji/kafka-specification WeakIsr";
        /// What a leader shows below its high watermark never differs from what a consumer has read there.
        ConsistentRead = "replication.consistent-read", Kind::Always, "KIP-101, KIP-320";
        /// The ISR that a leader of the latest epoch counts on includes the controller's, and the ELR while it may commit.
        QuorumSuperset = "replication.quorum-superset", Kind::Always, "KIP-497, Vanlightly/kafka-tlaplus";
        /// The high watermark is at most the log end offset.
        HighWatermarkInLog = "replication.high-watermark-in-log", Kind::Always, "UnifiedLog.scala";
        /// The leader is in the ISR.
        LeaderInIsr = "replication.leader-in-isr", Kind::Always, "PartitionRegistration.java";
        /// Every member of the ISR and of the ELR is a replica of the partition.
        IsrAssigned = "replication.isr-assigned", Kind::Always, "KIP-455, PartitionRegistration.java";
        /// No two brokers lead in the same leader epoch.
        OneLeaderPerEpoch = "replication.one-leader-per-epoch", Kind::Always, "KIP-101";
        /// A broker that is fenced or in controlled shutdown leads nothing and is in no ISR of more than one member.
        NoFencedInIsr = "replication.no-fenced-in-isr", Kind::Always, "KIP-841";
        /// A record that acks=all acknowledged is in the log of every leader of a later epoch.
        AckedAllIsDurable = "acks.all-is-durable", Kind::Always, "KIP-966, ProducerConfig acks";
        /// With acks=all nothing is acknowledged that fewer than min.insync.replicas logs have.
        AckedAllIsReplicated = "acks.all-is-replicated", Kind::Always, "TopicConfig min.insync.replicas";
        /// While a broker leads in the leader epoch in which a consumer has validated its position, what the consumer has read since it was last told of a truncation is the beginning of that broker's log.
        ConsumerOneHistory = "consumer.one-history", Kind::Always, "KIP-320";
        /// Nothing is shown to a consumer that fewer than min.insync.replicas logs have.
        CommittedIsReplicated = "replication.committed-is-replicated", Kind::Always, "KIP-966, KAFKA-15583";
        /// Once faults stop there is a leader, everybody is in sync with it, and every write is answered.
        Convergence = "replication.convergence", Kind::Convergence, "Vanlightly/kafka-tlaplus liveness";
        /// A record that acks=1 acknowledged is lost with its leader.
        AckedOneIsLost = "acks.one-is-lost", Kind::Sometimes, "ProducerConfig acks";
        /// A record that acks=all acknowledged is lost because the last replica standing loses its unflushed suffix.
        LastReplicaStanding = "acks.last-replica-standing", Kind::Sometimes, "KIP-966";
        /// A record that acks=all acknowledged is lost in an unclean election.
        UncleanLoses = "election.unclean-loses", Kind::Sometimes, "KIP-106, unclean.leader.election.enable";
        /// A record that acks=all sent is acknowledged.
        AckedAllHappens = "acks.all-happens", Kind::Sometimes, "ProducerConfig acks";
        /// No record of an idempotent producer is in a log twice.
        ProducerNoDuplicate = "producer.no-duplicate", Kind::Always, "KIP-98";
        /// The records of an idempotent producer stand in every log in the order in which they were sent.
        ProducerInOrder = "producer.in-order", Kind::Always, "KIP-98";
        /// A leader answers an idempotent producer that a batch is a duplicate only if its log has it, and that it is out of order only if it has not.
        ProducerJudgedByLog = "producer.judged-by-log", Kind::Always, "KIP-98, KAFKA-5494";
        /// A record that a producer without idempotence sends again is in the log twice.
        ProducerDuplicates = "producer.duplicates", Kind::Sometimes, "KIP-98";
        /// A record of a producer without idempotence stands behind one that was sent after it.
        ProducerReorders = "producer.reorders", Kind::Sometimes, "KIP-98, ProducerConfig max.in.flight.requests.per.connection";
        /// A consumer is told that records that it has read are gone.
        ConsumerIsTold = "consumer.is-told", Kind::Sometimes, "KIP-320";
        /// A follower truncates records that its new leader does not have.
        TruncationHappens = "replication.truncation-happens", Kind::Sometimes, "KIP-101";
        /// No two members whose epoch or generation is the present one read the same partition.
        OneOwner = "assignment.one-owner", Kind::Always, "KIP-848, Vanlightly/kafka-tlaplus NoDoubleClientAssignment";
        /// The coordinator assigns no partition to two members, counting what they are still to give up.
        AssignedOnce = "assignment.assigned-once", Kind::Always, "KIP-848, ConsumerGroup.java";
        /// A partition has the epoch of the member that has it, and none if nobody has it.
        PartitionEpochValid = "assignment.partition-epoch-valid", Kind::Always, "KAFKA-16147, Vanlightly/kafka-tlaplus ValidPartitionEpoch";
        /// A stable member has its target assignment; the members of a stable group have all partitions.
        StableGroupValid = "group.stable-valid", Kind::Always, "KIP-848, KAFKA-9801";
        /// No client knows an epoch or generation that the committed log does not, and no member is ahead of its group.
        EpochCommitted = "member.epoch-committed", Kind::Always, "CoordinatorRuntime.java, KIP-848";
        /// A member is never given a smaller epoch than it had.
        MemberEpochForward = "member.epoch-forward", Kind::Always, "KIP-848";
        /// A commit is accepted only from the member to which the coordinator has assigned the partition.
        OffsetsByOwner = "offsets.by-owner", Kind::Always, "KIP-848, ClassicGroup.java";
        /// A committed offset never goes back, unless the member that committed it takes it back in the same epoch.
        OffsetsForward = "offsets.forward", Kind::Always, "KIP-848, ClassicGroup.java";
        /// An offset that was acknowledged or shown is in the committed log, unless its owner has taken it back or the group was without members for too long.
        OffsetsDurable = "offsets.durable", Kind::Always, "CoordinatorRuntime.java, KIP-211";
        /// If clients commit after they have processed, every record below a committed offset was processed.
        AtLeastOnce = "offsets.at-least-once", Kind::Always, "KafkaConsumer.java";
        /// If clients commit before they process, no record is processed twice, unless a commit came in late or offsets have expired.
        AtMostOnce = "offsets.at-most-once", Kind::Always, "KafkaConsumer.java";
        /// Once faults stop, every client that wants to is a member, and every partition is read by one of them.
        GroupsConvergence = "groups.convergence", Kind::Convergence, "KIP-848, Vanlightly/kafka-tlaplus liveness";
        /// Two members share the partitions, and nothing is left to do.
        RebalanceEnds = "group.rebalance-ends", Kind::Sometimes, "KIP-848";
        /// A client that was removed, or left behind, reads on, and its commits are refused.
        ZombieRefused = "offsets.zombie-refused", Kind::Sometimes, "KIP-848, ClassicGroup.java";
        /// A record is processed twice, though its first reader was to commit after it.
        ProcessedTwice = "offsets.processed-twice", Kind::Sometimes, "KafkaConsumer.java";
        /// A record is never processed, since its reader had committed it and stopped.
        RecordSkipped = "offsets.record-skipped", Kind::Sometimes, "KafkaConsumer.java";
    }
    kind: Kind
}

/// Which model has what an id is about: its first word says it.
fn model_of(id: &str) -> &'static str {
    match id.split('.').next().unwrap_or(id) {
        "group" | "groups" | "member" | "assignment" | "offsets" | "coordinator" => "groups",
        _ => "replication",
    }
}

impl Rule {
    /// The model that has it, as `bellwether check` names it.
    pub fn model(self) -> &'static str {
        model_of(self.id())
    }
}

impl Invariant {
    /// The model that has it, as `bellwether check` names it.
    pub fn model(self) -> &'static str {
        model_of(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_parse() {
        let mut seen = std::collections::BTreeSet::new();
        for rule in Rule::ALL {
            assert!(seen.insert(rule.id()), "{rule} twice");
            assert_eq!(rule.id().parse(), Ok(*rule));
            assert!(rule.statement().ends_with('.'), "{rule}");
        }
        for invariant in Invariant::ALL {
            assert!(seen.insert(invariant.id()), "{invariant} twice");
            assert_eq!(invariant.id().parse(), Ok(*invariant));
        }
        assert!("fetch.nonsense".parse::<Rule>().is_err());
    }
}
