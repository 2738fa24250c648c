---------------------------- MODULE Replication ----------------------------
(***************************************************************************)
(* One partition and its replication: the twin of the Rust model in        *)
(* model/src/replication, for a second opinion from TLC.                   *)
(*                                                                         *)
(* It is to be read beside the Rust: sections follow its files, and        *)
(* states, fields, actions, rules and invariants have the same names.      *)
(* What is different:                                                      *)
(*  - an action is the set of the states that it leads to, one for each    *)
(*    choice that it leaves open; it is empty if it cannot happen;         *)
(*  - sequences count from 1, so `applied' is 1 where the Rust has 0;      *)
(*  - what is gone or not known is None, an unregistered incarnation is 0. *)
(* A state after a step is brought into its normal form, as in the Rust,   *)
(* unless NormalForm is FALSE: then more states mean the same.             *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, Bags, TLC

CONSTANTS
    Brokers,        \* the replicas
    FirstLeader,    \* the one that leads at first
    None,
    \* bounds.rs: how much is written, and how much may go wrong
    Records, Batch, Acks, Reads, MinIsr, Unclean, Elr,
    Crashes, Lossy, Stops, Fences, Shrinks, Elections, Retries, Flights, Loss, Stale,
    RulesOff,       \* the ids of the rules that a mutant lacks
    NormalForm      \* whether states are brought into their normal form

ASSUME /\ FirstLeader \in Brokers /\ None \notin Brokers
       /\ Acks \subseteq {"0", "1", "all"}
       /\ {Reads, Unclean, Elr, Loss, NormalForm} \subseteq BOOLEAN

VARIABLE state

Min(a, b) == IF a < b THEN a ELSE b
Least(set) == CHOOSE least \in set : \A n \in set : least <= n
Greatest(set) == CHOOSE most \in set : \A n \in set : most >= n
Last(seq) == seq[Len(seq)]

-----------------------------------------------------------------------------
(* The rules: registry.rs.                                                 *)

Holds(rule) == rule \notin RulesOff

FetchLeaderEpoch          == Holds("fetch.leader-epoch")
FetchBrokerEpoch          == Holds("fetch.broker-epoch")
TruncateByEpoch           == Holds("truncate.by-epoch")
TruncateCommonEpoch       == Holds("truncate.common-epoch")
FetchDivergingNoUpdate    == Holds("fetch.diverging-no-update")
FetchResponseEpoch        == Holds("fetch.response-epoch")
FetchResponseOffset       == Holds("fetch.response-offset")
FetchResponseLastEpoch    == Holds("fetch.response-last-epoch")
LeaderForgetsFollowers    == Holds("leader.forgets-followers")
HighWatermarkReplicated   == Holds("high-watermark.replicated")
HighWatermarkMaximalIsr   == Holds("high-watermark.maximal-isr")
HighWatermarkMinIsr       == Holds("high-watermark.min-isr")
IsrExpandHighWatermark    == Holds("isr.expand-high-watermark")
IsrExpandEpochStart       == Holds("isr.expand-epoch-start")
IsrExpandUnfenced         == Holds("isr.expand-unfenced")
IsrExpandBrokerEpoch      == Holds("isr.expand-broker-epoch")
AlterPartitionEpoch       == Holds("alter-partition.partition-epoch")
AlterPartitionLeaderEpoch == Holds("alter-partition.leader-epoch")
AlterPartitionBrokerEpoch == Holds("alter-partition.broker-epoch")
AlterPartitionUnfenced    == Holds("alter-partition.unfenced")
ElectionInSync            == Holds("election.in-sync")
ElectionNewEpoch          == Holds("election.new-epoch")
RegistrationLeavesIsr     == Holds("registration.leaves-isr")
FencingLeavesIsr          == Holds("fencing.leaves-isr")
RegistrationCatchUp       == Holds("registration.catch-up")
RegistrationCleanProof    == Holds("registration.clean-proof")
ElrFromIsr                == Holds("elr.from-isr")
ElrBelowMinIsr            == Holds("elr.below-min-isr")
ElrUncleanLeaves          == Holds("elr.unclean-leaves")
ElectionElrWhenIsrEmpty   == Holds("election.elr-when-isr-empty")
ElectionLastKnownLeader   == Holds("election.last-known-leader")
AckHighWatermark          == Holds("acks.all-high-watermark")
AckMinIsr                 == Holds("acks.min-isr")
ProduceLeader             == Holds("produce.leader")
ReadHighWatermark         == Holds("read.high-watermark")

-----------------------------------------------------------------------------
(* log.rs: records [id, epoch], and the epoch cache as starts              *)
(* [epoch, start], ascending in both.                                      *)

EmptyLog == [records |-> <<>>, starts |-> <<>>]

End(log) == Len(log.records)

LatestEpoch(log) == IF log.starts = <<>> THEN None ELSE Last(log.starts).epoch

\* <<epoch, end>>, or None for an epoch above the latest.
EndFor(log, epoch) ==
    LET n     == Len(log.starts)
        above == {i \in 1..n : log.starts[i].epoch > epoch}
        upTo  == {i \in 1..n : log.starts[i].epoch <= epoch}
    IN  IF n = 0 \/ epoch > log.starts[n].epoch THEN None
        ELSE IF epoch = log.starts[n].epoch THEN <<epoch, End(log)>>
        ELSE <<IF upTo = {} THEN epoch ELSE log.starts[Greatest(upTo)].epoch, log.starts[Least(above)].start>>

Assign(starts, epoch, at) ==
    IF starts # <<>> /\ Last(starts).epoch = epoch /\ Last(starts).start <= at
    THEN starts
    ELSE Append(SelectSeq(starts, LAMBDA e : e.epoch < epoch /\ e.start < at), [epoch |-> epoch, start |-> at])

BeginEpoch(log, epoch) == [log EXCEPT !.starts = Assign(@, epoch, End(log))]

AppendRecord(log, record) ==
    [records |-> Append(log.records, record), starts |-> Assign(log.starts, record.epoch, End(log))]

RECURSIVE Extend(_, _)
Extend(log, records) ==
    IF records = <<>> THEN log ELSE Extend(AppendRecord(log, Head(records)), Tail(records))

Truncate(log, to) ==
    LET end == Min(to, End(log))
    IN  [records |-> SubSeq(log.records, 1, end), starts |-> SelectSeq(log.starts, LAMBDA e : e.start < end)]

\* The records of offsets from..to-1, as a plain sequence.
Slice(log, from, to) == SubSeq(log.records, from + 1, Min(to, End(log)))

\* The two sequences of records are equal up to an end.
Agree(a, b, end) == end <= Len(a) /\ end <= Len(b) /\ \A i \in 1..end : a[i] = b[i]

-----------------------------------------------------------------------------
(* state.rs                                                                *)

NoRemotes == [b \in Brokers |-> None]

Initial ==
    LET entry == [leader |-> FirstLeader, leader_epoch |-> 0, isr |-> Brokers, elr |-> {}, last_known_leader |-> None,
                  partition_epoch |-> 0, fenced |-> {}, incarnations |-> [b \in Brokers |-> 1]]
        broker(b) ==
            [alive |-> TRUE, lossy |-> FALSE, clean |-> FALSE, incarnation |-> 1, applied |-> 1,
             log |-> IF b = FirstLeader THEN BeginEpoch(EmptyLog, 0) ELSE EmptyLog,
             high_watermark |-> 0, isr |-> Brokers, partition_epoch |-> 0, pending |-> None, alter |-> None,
             epoch_start |-> 0, remote |-> NoRemotes, waiting |-> <<>>, fetches |-> [l \in Brokers |-> None],
             \* Fetches that a newer one has superseded, and that are on their way all the same; any number alike.
             stale |-> EmptyBag]
    IN  [metadata |-> <<entry>>,
         brokers |-> [b \in Brokers |-> broker(b)],
         seen |-> <<>>, acked_all |-> <<>>, acked_one |-> <<>>,
         \* Records, by number, whose batch goes on with the next number.
         joined |-> {},
         used |-> [records |-> 0, crashes |-> 0, lossy |-> 0, stops |-> 0, fences |-> 0, shrinks |-> 0,
                   elections |-> 0, retries |-> 0, stale |-> 0, unclean |-> 0, standing |-> 0]]

\* What is gone when the process is.
ForgetVolatile(b) ==
    [b EXCEPT !.applied = None, !.isr = {}, !.partition_epoch = 0, !.pending = None, !.epoch_start = 0,
              !.remote = NoRemotes, !.waiting = <<>>]

Controller(s) == Last(s.metadata)

\* The entry that a broker acts on; None after a start, and when it is down.
View(s, b) == IF s.brokers[b].applied = None THEN None ELSE s.metadata[s.brokers[b].applied]

Leads(s, b) == LET view == View(s, b) IN view # None /\ view.leader = b

CurrentLeader(s) ==
    LET now == Controller(s)
        l   == now.leader
    IN  IF l # None /\ Leads(s, l) /\ View(s, l).leader_epoch = now.leader_epoch THEN l ELSE None

\* Whether no batch of a log lies on both sides of this offset: batches are written, sent and kept as they are.
EndsBatch(s, log, offset) == offset = 0 \/ log.records[offset].id \notin s.joined

\* The fetches of a broker that are on their way. `late': a newer one has superseded it.
OnTheWay(s, id) ==
    {[late |-> FALSE, flight |-> f] : f \in {s.brokers[id].fetches[l] : l \in Brokers} \ {None}}
    \union {[late |-> TRUE, flight |-> f] : f \in BagToSet(s.brokers[id].stale)}

\* One of them has become another, or None.
Becomes(s, id, fetch, flight) ==
    IF fetch.late
    THEN [s EXCEPT !.brokers[id].stale =
             (@ (-) SetToBag({fetch.flight})) (+) (IF flight = None THEN EmptyBag ELSE SetToBag({flight}))]
    ELSE [s EXCEPT !.brokers[id].fetches[fetch.flight.leader] = flight]

\* Those in a bag that pass a test.
Only(bag, Passes(_)) == [f \in {f \in BagToSet(bag) : Passes(f)} |-> bag[f]]

MaximalIsr(b) == IF b.pending = None THEN b.isr ELSE b.isr \union b.pending

\* min.insync.replicas as it takes effect.
EffectiveMinIsr == Min(MinIsr, Cardinality(Brokers))

-----------------------------------------------------------------------------
(* normal.rs: one form for states that no future step can tell apart.      *)

DeadLetter(s, f, flight) ==
    LET theirs == View(s, flight.leader)
        mine   == View(s, f)
        reborn == FetchLeaderEpoch /\ ElectionNewEpoch /\ RegistrationCatchUp
    IN  CASE flight.phase \in {"Requested", "Received"} ->
                \/ FetchLeaderEpoch /\ theirs # None /\ theirs.leader_epoch > flight.leader_epoch
                \/ reborn /\ ~s.brokers[flight.leader].alive
          [] flight.phase = "Error" -> TRUE
          [] OTHER ->
                /\ FetchResponseEpoch
                /\ (mine = None \/ mine.leader # flight.leader \/ mine.leader_epoch # flight.leader_epoch)

SettledAlter(s, id) ==
    LET b     == s.brokers[id]
        alter == b.alter
        now   == Controller(s)
    IN  IF alter.status = "Sent"
        THEN \/ alter.incarnation < now.incarnations[id]
             \/ /\ AlterPartitionEpoch /\ AlterPartitionLeaderEpoch
                /\ (alter.leader_epoch < now.leader_epoch \/ alter.partition_epoch < now.partition_epoch)
        ELSE \/ alter.error \notin {"NONE", "INELIGIBLE_REPLICA"}
             \/ b.pending # alter.isr
             \/ b.partition_epoch # alter.partition_epoch

\* Fetches, AlterPartition requests and fields that come to nothing.
ForgetTheUnread(s) ==
    LET tidy(id) ==
            LET b      == s.brokers[id]
                view   == View(s, id)
                leads  == Leads(s, id)
                follow == view # None /\ ~leads
            IN  [b EXCEPT
                    !.fetches = [l \in Brokers |-> IF @[l] # None /\ DeadLetter(s, id, @[l]) THEN None ELSE @[l]],
                    !.stale = IF @ = EmptyBag THEN @ ELSE Only(@, LAMBDA f : ~DeadLetter(s, id, f)),
                    !.alter = IF @ # None /\ SettledAlter(s, id) THEN None ELSE @,
                    !.clean = @ /\ Elr,
                    !.isr = IF follow THEN view.isr ELSE @,
                    !.partition_epoch = IF follow THEN view.partition_epoch ELSE @,
                    !.epoch_start = IF b.high_watermark >= @ /\ IsrExpandHighWatermark THEN 0 ELSE @]
        \* Only the controller reads these, and only of its own state.
        old == [i \in 1..(Len(s.metadata) - 1) |-> [s.metadata[i] EXCEPT !.elr = {}, !.last_known_leader = None]]
    IN  [s EXCEPT !.brokers = [id \in Brokers |-> tidy(id)],
                  !.metadata = Append(old, Controller(s))]

\* The first metadata entry that a broker can still come to act on.
Needed(s, id) ==
    LET b    == s.brokers[id]
        last == Len(s.metadata)
        own  == {i \in 1..last : b.alive /\ s.metadata[i].incarnations[id] = b.incarnation}
    IN  IF b.applied # None THEN b.applied
        ELSE IF ~RegistrationCatchUp THEN 1
        ELSE IF own = {} THEN last ELSE Least(own)

Trim(s) ==
    LET drop == Least({Needed(s, id) : id \in Brokers}) - 1
    IN  IF drop = 0 THEN s
        ELSE [s EXCEPT !.metadata = SubSeq(@, drop + 1, Len(@)),
                       !.brokers = [id \in Brokers |->
                           [@[id] EXCEPT !.applied = IF @ = None THEN None ELSE @ - drop]]]

\* Partition epochs are only ever compared: they start from the smallest one in use.
RebasePartitionEpochs(s) ==
    LET in(id) == LET b == s.brokers[id]
                  IN  (IF b.applied = None THEN {} ELSE {b.partition_epoch})
                      \union (IF b.alter = None THEN {} ELSE {b.alter.partition_epoch})
        base   == Least({s.metadata[i].partition_epoch : i \in DOMAIN s.metadata}
                        \union UNION {in(id) : id \in Brokers})
        alter(a) == IF a = None THEN None
                    ELSE [a EXCEPT !.partition_epoch = @ - base,
                                   !.accepted = IF a.error = "NONE" THEN @ - base ELSE @]
        broker(b) == [b EXCEPT !.partition_epoch = IF b.applied = None THEN @ ELSE @ - base, !.alter = alter(@)]
    IN  IF base = 0 THEN s
        ELSE [s EXCEPT
                !.metadata = [i \in DOMAIN @ |-> [@[i] EXCEPT !.partition_epoch = @ - base]],
                !.brokers = [id \in Brokers |-> broker(@[id])]]

\* And so are the incarnations of each broker: the smallest one in use is 1. 0 is no incarnation.
RebaseIncarnations(s, i) ==
    LET mentions ==
            {s.metadata[e].incarnations[i] : e \in DOMAIN s.metadata}
            \union {s.brokers[i].incarnation}
            \union {fetch.flight.incarnation : fetch \in OnTheWay(s, i)}
            \union {s.brokers[j].remote[i].incarnation : j \in {j \in Brokers : s.brokers[j].remote[i] # None}}
            \union UNION {{s.brokers[j].alter.incarnations[i]} \union (IF i = j THEN {s.brokers[j].alter.incarnation} ELSE {})
                             : j \in {j \in Brokers : s.brokers[j].alter # None}}
        less == Least(mentions \ {0}) - 1
        lower(n) == IF n > 0 THEN n - less ELSE 0
        alter(j, a) == IF a = None THEN None
                       ELSE [a EXCEPT !.incarnations[i] = lower(@), !.incarnation = IF i = j THEN lower(@) ELSE @]
        remote(r) == IF r = None THEN None ELSE [r EXCEPT !.incarnation = lower(@)]
        flight(f) == IF f = None THEN None ELSE [f EXCEPT !.incarnation = lower(@)]
        stale(bag) == [f \in {flight(old) : old \in BagToSet(bag)} |-> bag[[f EXCEPT !.incarnation = @ + less]]]
        broker(j, b) ==
            [b EXCEPT !.alter = alter(j, @), !.remote[i] = remote(@),
                      !.incarnation = IF i = j THEN lower(@) ELSE @,
                      !.fetches = IF i = j THEN [l \in Brokers |-> flight(@[l])] ELSE @,
                      !.stale = IF i = j /\ @ # EmptyBag THEN stale(@) ELSE @]
    IN  IF s.brokers[i].incarnation = 1 \/ less = 0 THEN s
        ELSE [s EXCEPT
                !.metadata = [e \in DOMAIN @ |-> [@[e] EXCEPT !.incarnations[i] = lower(@)]],
                !.brokers = [j \in Brokers |-> broker(j, @[j])]]

RECURSIVE RebaseAll(_, _)
RebaseAll(s, ids) ==
    IF ids = {} THEN s
    ELSE LET i == CHOOSE i \in ids : TRUE IN RebaseAll(RebaseIncarnations(s, i), ids \ {i})

InNormalForm(s) ==
    RebaseAll(RebasePartitionEpochs(Trim(ForgetTheUnread(s))), {b \in Brokers : s.brokers[b].incarnation > 1})

Normalise(s) == IF NormalForm THEN InNormalForm(s) ELSE s

-----------------------------------------------------------------------------
(* step/controller.rs                                                      *)

\* Who may become leader: members of the ISR; if it is empty, members of the ELR; if both are, the last known leader; if
\* there is none of them and the configuration allows it, anybody. A fenced broker never.
Electable(entry) ==
    LET unfenced == Brokers \ entry.fenced
        elr      == IF Elr /\ (entry.isr = {} \/ ~ElectionElrWhenIsrEmpty) THEN entry.elr ELSE {}
        clean    == (entry.isr \union elr) \ entry.fenced
        nobody   == Elr /\ entry.isr = {} /\ entry.elr = {}
        last     == IF ElectionLastKnownLeader THEN {entry.last_known_leader} \intersect unfenced ELSE unfenced
    IN  IF ~ElectionInSync THEN unfenced
        ELSE IF nobody /\ last # {} THEN last
        ELSE IF clean = {} /\ Unclean THEN unfenced ELSE clean

\* What an election gives up. `unclean': the leader is in neither ISR nor ELR, and the configuration allows it.
\* `last_known': it is the last known leader, of whom nobody knows whether it has everything.
NoCosts == [unclean |-> FALSE, last_known |-> FALSE]

Costs(entry, leader) ==
    LET outside == leader # None /\ leader \notin entry.isr \union entry.elr
        last    == entry.last_known_leader = leader \/ ~ElectionLastKnownLeader
        known   == Elr /\ entry.isr = {} /\ entry.elr = {} /\ last
    IN  [unclean |-> outside /\ ~known /\ ElectionInSync, last_known |-> outside /\ known]

\* A leader, or None, begins a new leader epoch.
Lead(entry, leader) ==
    LET outside == leader # None /\ leader \notin entry.isr
    IN  [entry EXCEPT !.leader = leader,
                      !.leader_epoch = IF ElectionNewEpoch THEN @ + 1 ELSE @,
                      !.isr = IF outside THEN {leader} ELSE @,
                      !.elr = IF ~outside THEN @ ELSE IF leader \in @ THEN @ \ {leader} ELSE {}]

\* The ELR that goes with another ISR: nobody while the ISR has min.insync.replicas members; below that, whoever leaves the
\* ISR has all that is committed, since the high watermark stands still. `unclean' are those who stopped uncleanly.
PopulateElr(entry, old_isr, unclean) ==
    LET leave == IF ElrUncleanLeaves THEN unclean ELSE {}
        from  == IF ElrFromIsr THEN entry.elr \union old_isr ELSE Brokers
        elr   == IF Cardinality(entry.isr) < EffectiveMinIsr THEN (from \ entry.isr) \ leave
                 ELSE IF ElrBelowMinIsr THEN {}
                 \* Without the rule nobody is taken out for it, not even who is back in the ISR.
                 ELSE (entry.elr \union (old_isr \ entry.isr)) \ leave
    IN  IF Elr THEN [entry EXCEPT !.elr = elr] ELSE entry

\* The record is written: the partition epoch grows if anything of the partition changed.
Commit(s, entry, costs) ==
    LET last  == Controller(s)
        known == IF ~Elr THEN entry.last_known_leader
                 ELSE IF entry.leader # None THEN None
                 ELSE IF entry.isr = {} /\ last.isr # {} THEN last.leader
                 ELSE entry.last_known_leader
        written   == [entry EXCEPT !.last_known_leader = known]
        partition(e) == <<e.leader, e.leader_epoch, e.isr, e.elr, e.last_known_leader>>
        changed   == partition(written) # partition(last)
    IN  [s EXCEPT !.metadata = Append(@, [written EXCEPT !.partition_epoch = IF changed THEN @ + 1 ELSE @]),
                  !.used.unclean = IF costs.unclean THEN 1 ELSE @,
                  \* Whoever led last has everything, unless it has lost something.
                  !.used.standing = IF costs.last_known /\ s.used.lossy > 0 THEN 1 ELSE @]

\* Whether the partition changes when a broker has lost its session. `unclean': it has stopped, and not cleanly.
Touched(entry, id, unclean) == id \in entry.isr \/ (unclean /\ id \in entry.elr)

\* The partition when a broker has lost its session, before the election that may follow. The broker leaves the ISR;
\* without eligible leader replicas the last member stays.
Departed(entry, id, unclean, leaves_isr) ==
    LET gone == [entry EXCEPT
                    !.fenced = @ \union {id},
                    !.isr = IF leaves_isr /\ (Cardinality(@) > 1 \/ Elr) THEN @ \ {id} ELSE @]
    IN  IF leaves_isr /\ Touched(entry, id, unclean)
        THEN PopulateElr(gone, entry.isr, IF unclean THEN {id} ELSE {})
        ELSE gone

\* And after that election, one outcome for each who can lead. There is none if the broker did not lead, unless the
\* partition has no leader and now finds one.
Depart(entry, id, unclean, leaves_isr) ==
    LET departed == Departed(entry, id, unclean, leaves_isr)
        may      == Electable(departed)
        orphan   == Elr /\ Touched(entry, id, unclean) /\ entry.leader = None /\ may # {}
    IN  IF entry.leader = id \/ orphan
        THEN {[entry |-> Lead(departed, leader), costs |-> Costs(departed, leader)]
                : leader \in IF may = {} THEN {None} ELSE may}
        ELSE {[entry |-> departed, costs |-> NoCosts]}

Register(s) ==
    LET registered(id, clean) ==
            LET b     == s.brokers[id]
                entry == [Controller(s) EXCEPT !.incarnations[id] = b.incarnation]
            IN  {LET \* The last replica standing comes back, and what it lost nobody else may have.
                     standing == b.lossy /\ outcome.entry.isr = {id} /\ ~Elr
                     known    == [s EXCEPT !.brokers[id].lossy = FALSE, !.brokers[id].clean = FALSE,
                                           !.used.standing = IF standing THEN 1 ELSE @]
                 IN  Commit(known, outcome.entry, outcome.costs)
                    : outcome \in Depart(entry, id, ~clean, RegistrationLeavesIsr)}
        \* Whether it says that it had stopped cleanly: without the rule it may say so without a proof.
        says(id) == {s.brokers[id].clean} \union IF Elr /\ ~RegistrationCleanProof THEN {TRUE} ELSE {}
    IN  UNION {UNION {registered(id, clean) : clean \in says(id)} : id \in {id \in Brokers :
            s.brokers[id].alive /\ s.brokers[id].incarnation > Controller(s).incarnations[id]}}

Fence(s) ==
    LET now == Controller(s)
        fenced(id) ==
            LET counted  == [s EXCEPT !.used.fences = IF s.brokers[id].alive THEN @ + 1 ELSE @]
            IN  IF FencingLeavesIsr
                THEN {Commit(counted, outcome.entry, outcome.costs) : outcome \in Depart(now, id, FALSE, TRUE)}
                ELSE {Commit(counted, [now EXCEPT !.fenced = @ \union {id}], NoCosts)}
    IN  UNION {fenced(id) : id \in {id \in Brokers \ now.fenced : ~s.brokers[id].alive \/ s.used.fences < Fences}}

Unfence(s) ==
    LET now == Controller(s)
        unfenced(id) ==
            LET entry == [now EXCEPT !.fenced = @ \ {id}]
                \* A partition without a leader takes this one, if it can lead.
                leads == entry.leader = None /\ id \in Electable(entry)
            IN  IF leads THEN Commit(s, Lead(entry, id), Costs(entry, id)) ELSE Commit(s, entry, NoCosts)
    IN  {unfenced(id) : id \in {id \in now.fenced :
            /\ s.brokers[id].alive
            /\ s.brokers[id].incarnation = now.incarnations[id]
            /\ s.brokers[id].applied # None}}

Elect(s) ==
    LET now == Controller(s)
    IN  IF s.used.elections >= Elections THEN {}
        ELSE {Commit([s EXCEPT !.used.elections = @ + 1], Lead(now, leader), Costs(now, leader))
                : leader \in Electable(now) \ {now.leader}}

\* What the controller makes of a broker's AlterPartition request, in Kafka's order.
AlterDecision(s, id) ==
    LET alter == s.brokers[id].alter
        now   == Controller(s)
        ineligible(m) ==
            \/ AlterPartitionUnfenced /\ m \in now.fenced
            \/ /\ AlterPartitionBrokerEpoch
               /\ alter.incarnations[m] # 0 /\ alter.incarnations[m] # now.incarnations[m]
    IN  CASE alter.incarnation # now.incarnations[id] -> "STALE_BROKER_EPOCH"
          [] OTHER ->
        CASE alter.leader_epoch > now.leader_epoch \/ alter.partition_epoch > now.partition_epoch -> "NOT_CONTROLLER"
          [] OTHER ->
        CASE AlterPartitionLeaderEpoch /\ alter.leader_epoch < now.leader_epoch -> "FENCED_LEADER_EPOCH"
          [] OTHER ->
        CASE now.leader # id \/ id \notin alter.isr -> "INVALID_REQUEST"
          [] OTHER ->
        CASE AlterPartitionEpoch /\ alter.partition_epoch < now.partition_epoch -> "INVALID_UPDATE_VERSION"
          [] OTHER ->
        IF \E m \in alter.isr : ineligible(m) THEN "INELIGIBLE_REPLICA" ELSE "NONE"

AlterPartition(s) ==
    LET decided(id) ==
            LET b     == s.brokers[id]
                alter == b.alter
                error == AlterDecision(s, id)
                now   == Controller(s)
                entry == PopulateElr([now EXCEPT !.isr = alter.isr, !.partition_epoch = @ + 1], now.isr, {})
                known == [alter EXCEPT !.status = "Decided", !.error = error,
                                       !.accepted = IF error = "NONE" THEN entry.partition_epoch ELSE 0]
                \* Nobody is there to hear the answer to a request of an earlier life.
                heard == b.alive /\ b.incarnation = alter.incarnation
            IN  [s EXCEPT !.metadata = IF error = "NONE" THEN Append(@, entry) ELSE @,
                          !.brokers[id].alter = IF heard THEN known ELSE None]
    IN  {decided(id) : id \in {id \in Brokers :
            s.brokers[id].alter # None /\ s.brokers[id].alter.status = "Sent"}}

-----------------------------------------------------------------------------
(* step/replica.rs                                                         *)

\* A broker stops: with a log of this end, and this high watermark in its checkpoint.
Down(s, id, keep, hw) ==
    LET b == s.brokers[id]
        \* What it has sent may still arrive; what came back for it is lost.
        own(f) == IF f # None /\ f.phase = "Requested" THEN f ELSE None
        \* So is what was sent to it, or is parked with it.
        to(f)  == IF f # None /\ f.phase \in {"Requested", "Received"} THEN None ELSE f
        down   == [ForgetVolatile(b) EXCEPT
                      !.alive = FALSE, !.log = Truncate(@, keep), !.high_watermark = hw,
                      !.alter = IF @ # None /\ @.status = "Sent" THEN @ ELSE None,
                      !.fetches = [l \in Brokers |-> own(@[l])],
                      !.stale = IF @ = EmptyBag THEN @ ELSE Only(@, LAMBDA f : own(f) # None)]
        sent(f) == f.leader # id \/ to(f) # None
    IN  [s EXCEPT !.brokers = [other \in Brokers |->
                      IF other = id THEN down
                      ELSE [@[other] EXCEPT !.fetches[id] = to(@), !.stale = IF @ = EmptyBag THEN @ ELSE Only(@, sent)]]]

\* Those that run, with a checkpoint that their log reaches.
Stoppable(s) == {id \in Brokers : s.brokers[id].alive /\ s.brokers[id].high_watermark <= End(s.brokers[id].log)}

Crash(s) ==
    LET crashed(id, keep, hw) ==
            LET lossy == keep < End(s.brokers[id].log)
            IN  [Down(s, id, keep, hw) EXCEPT
                    !.brokers[id].lossy = @ \/ lossy, !.brokers[id].clean = FALSE,
                    !.used.crashes = @ + 1, !.used.lossy = IF lossy THEN @ + 1 ELSE @]
    IN  IF s.used.crashes >= Crashes THEN {}
        ELSE {crashed(id, End(s.brokers[id].log), s.brokers[id].high_watermark) : id \in Stoppable(s)}
             \union
             IF s.used.lossy >= Lossy THEN {}
             ELSE UNION {LET log == s.brokers[id].log
                         IN  {crashed(id, keep, 0) : keep \in {k \in 0..End(log) : k < End(log) /\ EndsBatch(s, log, k)}}
                            : id \in {id \in Brokers : s.brokers[id].alive}}

\* A clean stop loses nothing. The marker holds the broker epoch, so whoever has not registered can prove nothing by it.
Stop(s) ==
    LET stopped(id) ==
            LET b == s.brokers[id]
            IN  [Down(s, id, End(b.log), b.high_watermark) EXCEPT
                    !.brokers[id].clean = (Controller(s).incarnations[id] = b.incarnation),
                    !.used.stops = @ + 1]
    IN  IF s.used.stops >= Stops THEN {} ELSE {stopped(id) : id \in Stoppable(s)}

Restart(s) ==
    {[s EXCEPT !.brokers[id].alive = TRUE, !.brokers[id].incarnation = @ + 1]
        : id \in {id \in Brokers : ~s.brokers[id].alive}}

Applied(s, id, index) ==
    LET b      == s.brokers[id]
        before == View(s, id)
        entry  == s.metadata[index]
        newer  == before = None \/ entry.partition_epoch > b.partition_epoch
        known  == [b EXCEPT !.applied = index,
                            !.isr = IF newer THEN entry.isr ELSE @,
                            !.partition_epoch = IF newer THEN entry.partition_epoch ELSE @,
                            !.pending = IF newer THEN None ELSE @]
        led    == before # None /\ before.leader = id
        leader == IF led /\ before.leader_epoch = entry.leader_epoch THEN known
                  ELSE [known EXCEPT !.log = BeginEpoch(@, entry.leader_epoch),
                                     !.epoch_start = End(b.log),
                                     !.waiting = <<>>,
                                     !.remote = IF ~led \/ LeaderForgetsFollowers THEN NoRemotes ELSE @]
        \* As before KIP-101: a follower of a new leader cuts its log to its own high watermark.
        cuts   == /\ ~TruncateByEpoch
                  /\ entry.leader # None
                  /\ (before = None \/ before.leader_epoch # entry.leader_epoch)
        follower == [known EXCEPT !.pending = None, !.waiting = <<>>, !.epoch_start = 0, !.remote = NoRemotes,
                                  !.log = IF cuts THEN Truncate(@, b.high_watermark) ELSE @]
    IN  [s EXCEPT !.brokers[id] = IF entry.leader = id THEN leader ELSE follower]

\* The metadata entries that a broker can take over in one step.
Applicable(s, id) ==
    LET b == s.brokers[id]
    IN  {index \in 1..Len(s.metadata) :
            /\ b.alive
            /\ b.applied = None \/ index > b.applied
            /\ RegistrationCatchUp => s.metadata[index].incarnations[id] = b.incarnation}

Apply(s) == UNION {{Applied(s, id, index) : index \in Applicable(s, id)} : id \in Brokers}

-----------------------------------------------------------------------------
(* step/leader.rs                                                          *)

Leaders(s) == {id \in Brokers : Leads(s, id)}

EnoughInSync(b) == Cardinality(b.isr) >= EffectiveMinIsr

\* The longer one of what clients know and of a leader's log up to an end.
Lengthen(ghost, log, to) == IF to > Len(ghost) THEN Slice(log, 0, to) ELSE ghost

Wait(waiting, end) ==
    SelectSeq(waiting, LAMBDA w : w <= end) \o <<end>> \o SelectSeq(waiting, LAMBDA w : w > end)

Produce(s) ==
    LET produced(id, acks, count) ==
            LET b     == s.brokers[id]
                first == s.used.records
                batch == [i \in 1..count |-> [id |-> first + i - 1, epoch |-> View(s, id).leader_epoch]]
                log   == Extend(b.log, batch)
                waits == acks = "all" /\ Leads(s, id)
            IN  [s EXCEPT !.used.records = @ + count,
                          !.joined = @ \union {batch[i].id : i \in 1..(count - 1)},
                          !.brokers[id].log = log,
                          !.brokers[id].waiting = IF waits THEN Wait(@, End(log)) ELSE @,
                          !.acked_one = IF acks = "1" THEN Lengthen(@, log, End(log)) ELSE @]
        may(id, acks) == acks = "all" /\ AckMinIsr => EnoughInSync(s.brokers[id])
    IN  IF s.used.records >= Records THEN {}
        ELSE UNION {{produced(id, acks, count)
                        : acks \in {a \in Acks : may(id, a)}, count \in 1..Min(Batch, Records - s.used.records)}
                : id \in {id \in Brokers : Leads(s, id) \/ (~ProduceLeader /\ View(s, id) # None)}}

\* The leader refuses acks=all for want of in-sync replicas: nothing changes.
Reject(s) ==
    IF /\ s.used.records < Records /\ "all" \in Acks /\ AckMinIsr
       /\ \E id \in Leaders(s) : ~EnoughInSync(s.brokers[id])
    THEN {s} ELSE {}

Duplicate(s) ==
    IF s.used.retries >= Retries \/ "all" \notin Acks THEN {}
    ELSE UNION {{[s EXCEPT !.used.retries = @ + 1, !.brokers[id].waiting = Wait(@, end)]
                    : end \in {end \in 1..End(s.brokers[id].log) : EndsBatch(s, s.brokers[id].log, end)}}
            : id \in Leaders(s)}

Ack(s) ==
    LET acked(id, end) ==
            LET b     == s.brokers[id]
                place == CHOOSE i \in DOMAIN b.waiting : b.waiting[i] = end
                rest  == SubSeq(b.waiting, 1, place - 1) \o SubSeq(b.waiting, place + 1, Len(b.waiting))
                \* Else NOT_ENOUGH_REPLICAS_AFTER_APPEND.
                none  == Cardinality(MaximalIsr(b)) >= EffectiveMinIsr
            IN  [s EXCEPT !.brokers[id].waiting = rest,
                          !.acked_all = IF none THEN Lengthen(@, b.log, end) ELSE @]
    IN  UNION {LET b == s.brokers[id]
               IN  {acked(id, end) : end \in {b.waiting[i] : i \in
                        {i \in DOMAIN b.waiting : b.high_watermark >= b.waiting[i] \/ ~AckHighWatermark}}}
            : id \in Leaders(s)}

\* How far the leader may raise its high watermark; its present one if it may not.
HighWatermarkLimit(s, id) ==
    LET b       == s.brokers[id]
        counted == IF HighWatermarkMaximalIsr THEN MaximalIsr(b) ELSE IF b.pending # None THEN b.pending ELSE b.isr
        known(m) == IF b.remote[m] = None THEN 0 ELSE b.remote[m].end
    IN  IF HighWatermarkMinIsr /\ ~EnoughInSync(b) THEN b.high_watermark
        ELSE IF HighWatermarkReplicated THEN Least({End(b.log)} \union {known(m) : m \in counted \ {id}})
        ELSE End(b.log)

HighWatermark(s) ==
    {[s EXCEPT !.brokers[id].high_watermark = HighWatermarkLimit(s, id)]
        : id \in {id \in Leaders(s) : HighWatermarkLimit(s, id) > s.brokers[id].high_watermark}}

Read(s) ==
    LET end(id) == IF ReadHighWatermark THEN s.brokers[id].high_watermark ELSE End(s.brokers[id].log)
    IN  IF ~Reads THEN {}
        ELSE {[s EXCEPT !.seen = Lengthen(@, s.brokers[id].log, end(id))]
                : id \in {id \in Leaders(s) : end(id) > Len(s.seen) /\ end(id) <= End(s.brokers[id].log)}}

-----------------------------------------------------------------------------
(* step/fetch.rs                                                           *)

\* Without loss on the way, a follower asks again only when the last request has become another one.
Asked(s, id, leader) ==
    LET f == s.brokers[id]
        o == f.fetches[leader]
    IN  /\ o # None
        /\ o.incarnation = f.incarnation
        /\ o.leader_epoch = View(s, id).leader_epoch
        /\ o.fetch_offset = End(f.log)
        /\ ~Loss \/ o.phase = "Requested"

\* Whom a broker can ask: nobody, or the one that it holds for the leader.
ToAsk(s, id) ==
    LET view == View(s, id)
    IN  IF view = None THEN {}
        ELSE IF view.leader \in {None, id} THEN {}
        ELSE IF Asked(s, id, view.leader) /\ s.used.stale >= Stale THEN {} ELSE {view.leader}

Sent(s, id, leader) ==
    LET f == s.brokers[id]
        flight == [leader |-> leader, leader_epoch |-> View(s, id).leader_epoch, fetch_offset |-> End(f.log),
                   last_fetched_epoch |-> LatestEpoch(f.log), incarnation |-> f.incarnation,
                   phase |-> "Requested", answer |-> None]
        old  == f.fetches[leader]
        late == old # None /\ s.used.stale < Stale
    IN  [s EXCEPT !.brokers[id].fetches =
                     [l \in Brokers |-> IF l = leader THEN flight ELSE IF Flights = 1 THEN None ELSE @[l]],
                  !.brokers[id].stale = IF late THEN @ (+) SetToBag({old}) ELSE @,
                  !.used.stale = IF late THEN @ + 1 ELSE @]

Fetch(s) == UNION {{Sent(s, id, leader) : leader \in ToAsk(s, id)} : id \in Brokers}

\* What the leader makes of the fetch, in Kafka's order: "Received", "Error", or <<epoch, end>> where the logs diverge.
FetchVerdict(s, id, flight) ==
    LET leader == flight.leader
        l      == s.brokers[leader]
        view   == View(s, leader)
        last   == flight.last_fetched_epoch
        theirs == EndFor(l.log, last)
        offset == IF flight.fetch_offset > End(l.log) THEN "Error" ELSE "Received"  \* OFFSET_OUT_OF_RANGE
    IN  IF view = None THEN [phase |-> "Error", answer |-> None]                    \* NOT_LEADER_OR_FOLLOWER
        ELSE IF \/ FetchLeaderEpoch /\ view.leader_epoch # flight.leader_epoch      \* FENCED or UNKNOWN_LEADER_EPOCH
                \/ view.leader # leader                                             \* NOT_LEADER_OR_FOLLOWER
                \/ FetchBrokerEpoch /\ flight.incarnation < view.incarnations[id]   \* NOT_LEADER_OR_FOLLOWER
             THEN [phase |-> "Error", answer |-> None]
        ELSE IF last = None \/ ~TruncateByEpoch THEN [phase |-> offset, answer |-> None]
        ELSE IF theirs = None THEN [phase |-> "Error", answer |-> None]             \* OFFSET_OUT_OF_RANGE
        ELSE IF theirs[1] < last \/ theirs[2] < flight.fetch_offset
             THEN [phase |-> "Diverging", answer |-> [epoch |-> theirs[1], end |-> theirs[2]]]
        ELSE [phase |-> offset, answer |-> None]

Receive(s) ==
    LET received(id, fetch) ==
            LET f       == s.brokers[id]
                flight  == fetch.flight
                verdict == FetchVerdict(s, id, flight)
                update  == verdict.phase = "Received" \/ (verdict.phase = "Diverging" /\ ~FetchDivergingNoUpdate)
                answered == [flight EXCEPT !.phase = verdict.phase, !.answer = verdict.answer]
                \* A request outlives its sender, an answer does not find it.
                there   == f.alive /\ f.incarnation = flight.incarnation
                remote  == [end |-> flight.fetch_offset, incarnation |-> flight.incarnation]
            IN  [Becomes(s, id, fetch, IF there THEN answered ELSE None) EXCEPT
                    !.brokers[flight.leader].remote[id] = IF update THEN remote ELSE @]
        requested(id) == {fetch \in OnTheWay(s, id) :
            fetch.flight.phase = "Requested" /\ s.brokers[fetch.flight.leader].alive}
    IN  UNION {{received(id, fetch) : fetch \in requested(id)} : id \in Brokers}

\* The ends that a response to a parked fetch may have; if `most', only the largest.
Responses(s, id, flight, most) ==
    LET leader  == flight.leader
        l       == s.brokers[leader]
        end     == End(l.log)
        from    == flight.fetch_offset
        current == Leads(s, leader) /\ (View(s, leader).leader_epoch = flight.leader_epoch \/ ~FetchLeaderEpoch)
        said == [end |-> from, incarnation |-> flight.incarnation]
        overtaken == Stale > 0 /\ l.remote[id] # said
        records(to) == [flight EXCEPT !.phase = "Records",
                            !.answer = [records |-> Slice(l.log, from, to), high_watermark |-> l.high_watermark]]
    IN  IF ~current \/ from > end THEN {[flight EXCEPT !.phase = "Error"]}
        ELSE IF from < end
        THEN {records(to) : to \in IF most THEN {end} ELSE {to \in (from + 1)..end : EndsBatch(s, l.log, to)}}
        \* An empty response that teaches the follower nothing is as good as a fetch that stays parked, unless an older fetch
        \* has come in after this one: then the follower has to ask again.
        ELSE IF Min(l.high_watermark, end) # s.brokers[id].high_watermark \/ overtaken THEN {records(end)}
        ELSE {}

Parked(s, id) == {fetch \in OnTheWay(s, id) :
    fetch.flight.phase = "Received" /\ s.brokers[fetch.flight.leader].alive}

RespondUpTo(s, most) ==
    UNION {UNION {{Becomes(s, id, fetch, flight) : flight \in Responses(s, id, fetch.flight, most)}
                    : fetch \in Parked(s, id)}
            : id \in Brokers}

Respond(s) == RespondUpTo(s, FALSE)

\* What a follower does with the response on its way to it: its log and its high watermark afterwards.
FetchedOutcome(s, id, flight) ==
    LET f       == s.brokers[id]
        leader  == flight.leader
        view    == View(s, id)
        end     == End(f.log)
        current == view # None /\ view.leader = leader /\ view.leader_epoch = flight.leader_epoch
        ignored == [effect |-> "Ignored", log |-> f.log, high_watermark |-> f.high_watermark]
    IN  IF \/ flight.phase = "Error" \/ Leads(s, id)
           \/ FetchResponseEpoch /\ ~current
           \/ FetchResponseOffset /\ flight.fetch_offset # end
           \/ FetchResponseLastEpoch /\ flight.last_fetched_epoch # LatestEpoch(f.log)
        THEN ignored
        ELSE IF flight.phase = "Diverging"
        THEN LET theirs == flight.answer
                 mine   == IF TruncateCommonEpoch THEN EndFor(f.log, theirs.epoch) ELSE None
                 common == IF mine = None THEN theirs.end
                           ELSE IF mine[1] # theirs.epoch THEN mine[2] ELSE Min(mine[2], theirs.end)
                 to     == Min(common, end)
             IN  [effect |-> "Truncated", log |-> Truncate(f.log, to), high_watermark |-> Min(f.high_watermark, to)]
        ELSE LET log == Extend(f.log, flight.answer.records)
             IN  [effect |-> "Appended", log |-> log, high_watermark |-> Min(flight.answer.high_watermark, End(log))]

Answered(s, id) == {fetch \in OnTheWay(s, id) :
    fetch.flight.phase \in {"Error", "Diverging", "Records"} /\ s.brokers[id].alive}

Fetched(s) ==
    LET fetched(id, fetch) ==
            LET outcome == FetchedOutcome(s, id, fetch.flight)
            IN  [Becomes(s, id, fetch, None) EXCEPT
                    !.brokers[id].log = outcome.log, !.brokers[id].high_watermark = outcome.high_watermark]
    IN  UNION {{fetched(id, fetch) : fetch \in Answered(s, id)} : id \in Brokers}

-----------------------------------------------------------------------------
(* step/isr.rs                                                             *)

Proposed(s, id, isr, removed) ==
    LET b     == s.brokers[id]
        named(m) == IF m = id THEN b.incarnation
                    ELSE IF m \notin isr \/ b.remote[m] = None THEN 0 ELSE b.remote[m].incarnation
        alter == [isr |-> isr, incarnations |-> [m \in Brokers |-> named(m)],
                  leader_epoch |-> View(s, id).leader_epoch, partition_epoch |-> b.partition_epoch,
                  incarnation |-> b.incarnation, status |-> "Sent", error |-> "", accepted |-> 0]
    IN  [s EXCEPT !.brokers[id].pending = isr, !.brokers[id].alter = alter, !.used.shrinks = @ + removed]

\* Leaders that may propose an ISR.
Proposers(s) == {id \in Leaders(s) :
    LET b == s.brokers[id]
    IN  b.pending = None /\ (b.alter = None \/ b.alter.incarnation # b.incarnation) /\ id \in b.isr}

Shrink(s) ==
    IF s.used.shrinks >= Shrinks THEN {}
    ELSE UNION {{Proposed(s, id, s.brokers[id].isr \ {m}, 1) : m \in s.brokers[id].isr \ {id}} : id \in Proposers(s)}

Expand(s) ==
    LET joins(id, m) ==
            LET b      == s.brokers[id]
                remote == b.remote[m]
                view   == View(s, id)
            IN  /\ remote # None
                /\ IsrExpandHighWatermark => remote.end >= b.high_watermark
                /\ IsrExpandEpochStart => remote.end >= b.epoch_start
                /\ IsrExpandUnfenced => m \notin view.fenced
                /\ IsrExpandBrokerEpoch => remote.incarnation = view.incarnations[m]
    IN  UNION {{Proposed(s, id, s.brokers[id].isr \union {m}, 0)
                    : m \in {m \in Brokers \ s.brokers[id].isr : joins(id, m)}}
            : id \in Proposers(s)}

ProposeIsr(s) == Shrink(s) \union Expand(s)

LearnIsr(s) ==
    LET learned(id) ==
            LET b     == s.brokers[id]
                alter == b.alter
                about == /\ Leads(s, id) /\ View(s, id).leader_epoch = alter.leader_epoch
                         /\ b.pending = alter.isr /\ b.partition_epoch = alter.partition_epoch
                gone  == [b EXCEPT !.alter = None]
            IN  [s EXCEPT !.brokers[id] =
                    CASE about /\ alter.error = "NONE" ->
                            [gone EXCEPT !.isr = alter.isr, !.partition_epoch = alter.accepted, !.pending = None]
                      \* The controller has seen the request and did nothing: the committed ISR is what it was.
                      [] about /\ alter.error = "INELIGIBLE_REPLICA" -> [gone EXCEPT !.pending = None]
                      \* The controller's state is ahead: what it is, newer metadata will tell.
                      [] OTHER -> gone]
    IN  {learned(id) : id \in {id \in Brokers :
            s.brokers[id].alive /\ s.brokers[id].alter # None /\ s.brokers[id].alter.status = "Decided"}}

-----------------------------------------------------------------------------
(* model.rs                                                                *)

To(nexts) == \E next \in nexts : state' = Normalise(next)

Init == state = Initial

Next ==
    \/ To(Register(state))
    \/ To(Fence(state))
    \/ To(Unfence(state))
    \/ To(Elect(state))
    \/ To(AlterPartition(state))
    \/ To(Crash(state))
    \/ To(Stop(state))
    \/ To(Restart(state))
    \/ To(Apply(state))
    \/ To(Produce(state))
    \/ To(Reject(state))
    \/ To(Duplicate(state))
    \/ To(Ack(state))
    \/ To(HighWatermark(state))
    \/ To(Read(state))
    \/ To(Fetch(state))
    \/ To(Receive(state))
    \/ To(Respond(state))
    \/ To(Fetched(state))
    \/ To(ProposeIsr(state))
    \/ To(LearnIsr(state))

Spec == Init /\ [][Next]_state

\* The engine's symmetry: states that differ in the brokers' names only.
Symmetry == Permutations(Brokers)

-----------------------------------------------------------------------------
(* properties.rs. Promised: what Kafka promises after what has happened.   *)

\* With eligible leader replicas, fewer stops than min.insync.replicas, clean ones not counted, lose nothing.
Survives == Elr /\ state.used.crashes < EffectiveMinIsr

PromisedCommitted == state.used.unclean = 0 /\ (state.used.standing = 0 \/ Survives)
PromisedCopies == state.used.unclean = 0 /\ state.used.lossy = 0

Has(s, id, prefix) == Agree(s.brokers[id].log.records, prefix, Len(prefix))
HasCommitted(s, id) == Has(s, id, s.seen) /\ Has(s, id, s.acked_all)
Copies(s, prefix) == Cardinality({id \in Brokers : Has(s, id, prefix)})

\* A member of an ISR that has lost records or has started anew, while whoever holds it for a member has not yet heard.
Excused(s, view, id) == s.brokers[id].lossy \/ s.brokers[id].incarnation # view.incarnations[id]

LogMatching ==
    \A a \in Brokers, b \in Brokers :
        LET x == state.brokers[a].log.records
            y == state.brokers[b].log.records
        IN  \A i \in 1..Min(Len(x), Len(y)) : x[i].epoch = y[i].epoch => Agree(x, y, i)

LeaderCompleteness ==
    PromisedCommitted => LET l == CurrentLeader(state) IN l = None \/ HasCommitted(state, l)

StrongIsr ==
    PromisedCommitted =>
        LET now == Controller(state) IN \A m \in now.isr : Excused(state, now, m) \/ HasCommitted(state, m)

LeaderCandidateCompleteness ==
    PromisedCommitted =>
        LET now == Controller(state)
        IN  \A m \in now.isr \union now.elr :
                ~state.brokers[m].alive \/ Excused(state, now, m) \/ HasCommitted(state, m)

ElrDisjoint ==
    LET now == Controller(state) IN now.isr \intersect now.elr = {} /\ (Elr \/ now.elr = {})

WeakIsr ==
    PromisedCommitted =>
        LET l == CurrentLeader(state)
        IN  IF l = None THEN TRUE
            ELSE LET b == state.brokers[l]
                 IN  \A m \in b.isr :
                        \/ Excused(state, View(state, l), m)
                        \/ Agree(b.log.records, state.brokers[m].log.records, b.high_watermark)

ConsistentRead ==
    PromisedCommitted =>
        \A l \in Leaders(state) :
            LET b == state.brokers[l]
            IN  Agree(b.log.records, state.seen, Min(b.high_watermark, Len(state.seen)))

QuorumSuperset ==
    LET l == CurrentLeader(state)
    IN  IF l = None THEN TRUE
        ELSE LET b   == state.brokers[l]
                 now == Controller(state)
             \* A leader that holds its ISR for too small commits nothing, so that the ELR need not count for it.
             IN  (IF EnoughInSync(b) THEN now.isr \union now.elr ELSE now.isr) \subseteq MaximalIsr(b)

HighWatermarkInLog == \A b \in Brokers : state.brokers[b].high_watermark <= End(state.brokers[b].log)

LeaderInIsr == LET now == Controller(state) IN now.leader = None \/ now.leader \in now.isr

OneLeaderPerEpoch ==
    \A a \in Leaders(state), b \in Leaders(state) :
        View(state, a).leader_epoch = View(state, b).leader_epoch => a = b

NoFencedInIsr ==
    LET now == Controller(state)
    IN  /\ now.leader \notin now.fenced
        /\ now.fenced \intersect now.isr = {} \/ (Cardinality(now.isr) = 1 /\ ~Elr)

AckedAllIsDurable ==
    PromisedCommitted => LET l == CurrentLeader(state) IN l = None \/ Has(state, l, state.acked_all)

AckedAllIsReplicated == PromisedCopies => Copies(state, state.acked_all) >= EffectiveMinIsr

CommittedIsReplicated == PromisedCopies => Copies(state, state.seen) >= EffectiveMinIsr

\* Of kind `sometimes': witnesses.
Lost(prefix) == LET l == CurrentLeader(state) IN l # None /\ ~Has(state, l, prefix)

AckedOneIsLost      == Lost(state.acked_one)
LastReplicaStanding == state.used.unclean = 0 /\ state.used.standing > 0 /\ Lost(state.acked_all)
UncleanLoses        == state.used.unclean > 0 /\ state.used.lossy = 0 /\ Lost(state.acked_all)
AckedAllHappens     == Len(state.acked_all) > 0
TruncationHappens ==
    \E id \in Brokers : \E fetch \in Answered(state, id) :
        /\ fetch.flight.phase = "Diverging"
        /\ End(FetchedOutcome(state, id, fetch.flight).log) < End(state.brokers[id].log)

\* For TLC: the depth of the first witness is the length of the counterexample to its absence.
NoAckedOneIsLost      == ~AckedOneIsLost
NoLastReplicaStanding == ~LastReplicaStanding
NoUncleanLoses        == ~UncleanLoses
NoAckedAllHappens     == ~AckedAllHappens
NoTruncationHappens   == ~TruncationHappens

-----------------------------------------------------------------------------
(* Healing: the steps that are left when nothing goes wrong any more, in   *)
(* the Rust's fixed order. See Convergence.tla.                            *)

Settled(s) ==
    LET now    == Controller(s)
        leader == s.brokers[now.leader]
        in_step(b) ==
            /\ b.alive /\ b.applied = Len(s.metadata)
            /\ b.log.records = leader.log.records
            /\ b.high_watermark = End(leader.log)
            /\ b.waiting = <<>> /\ b.pending = None
    IN  /\ now.leader # None /\ now.fenced = {} /\ now.isr = Brokers
        /\ \A id \in Brokers : in_step(s.brokers[id])

HealingFetch(s) ==
    LET asked(id, leader) ==
            LET f == s.brokers[id]
                o == f.fetches[leader]
            IN  o # None /\ o.leader_epoch = View(s, id).leader_epoch /\ o.fetch_offset = End(f.log)
    IN  UNION {{Sent(s, id, leader) : leader \in {l \in ToAsk(s, id) : ~asked(id, l)}} : id \in Brokers}

Healing(s, rank) ==
    CASE rank = 0  -> Restart(s)
      [] rank = 1  -> Register(s)
      [] rank = 2  -> {Applied(s, id, Greatest(Applicable(s, id))) : id \in {id \in Brokers : Applicable(s, id) # {}}}
      [] rank = 3  -> Unfence(s)
      [] rank = 4  -> AlterPartition(s)
      [] rank = 5  -> LearnIsr(s)
      [] rank = 6  -> Fetched(s)
      [] rank = 7  -> RespondUpTo(s, TRUE)
      [] rank = 8  -> Receive(s)
      [] rank = 9  -> HighWatermark(s)
      [] rank = 10 -> Ack(s)
      [] rank = 11 -> HealingFetch(s)
      [] rank = 12 -> Expand(s)

RECURSIVE Heal(_, _)
Heal(s, rank) ==
    IF rank > 12 THEN {} ELSE LET nexts == Healing(s, rank) IN IF nexts # {} THEN nexts ELSE Heal(s, rank + 1)

=============================================================================
