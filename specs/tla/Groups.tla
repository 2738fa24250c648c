------------------------------- MODULE Groups -------------------------------
(***************************************************************************)
(* One group of KIP-848 and its coordinator: the twin of the Rust model in *)
(* model/src/groups, as far as it is about membership and the assignment.  *)
(*                                                                         *)
(* It is to be read beside the Rust: fields, actions, rules and invariants *)
(* have the same names. An action is the set of the states that it leads   *)
(* to, one for each choice that it leaves open; it is empty if it cannot   *)
(* happen.                                                                 *)
(***************************************************************************)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Members,        \* the clients, each with a member id of its own
    Partitions,     \* each of a topic of its own
    None,
    \* bounds.rs: how much may happen
    Uncommitted, Joins, Leaves, Crashes, Expiries, Failovers, Lost, Late,
    RulesOff        \* the ids of the rules that a mutant lacks

ASSUME None \notin Members

VARIABLE state

Last(seq) == seq[Len(seq)]

-----------------------------------------------------------------------------
(* The rules: registry.rs.                                                 *)

Holds(rule) == rule \notin RulesOff

CoordinatorReplyCommitted == Holds("coordinator.reply-committed")
CoordinatorLoadFirst      == Holds("coordinator.load-first")
MemberEpoch               == Holds("member.epoch")
MemberPreviousOwned       == Holds("member.previous-owned")
MemberReconciledOwned     == Holds("member.reconciled-owned")
AssignmentRevokeFirst     == Holds("assignment.revoke-first")
AssignmentReleaseFirst    == Holds("assignment.release-first")
AssignmentOldEpoch        == Holds("assignment.old-epoch")
AssignmentPartitionEpoch  == Holds("assignment.partition-epoch")

-----------------------------------------------------------------------------
(* What there is: state.rs.                                                *)

Absent == [present |-> FALSE, epoch |-> 0, previous |-> 0, status |-> "Stable", assigned |-> {}, revoking |-> {}]

NoGroup == [epoch |-> 0, target_epoch |-> 0, target |-> [p \in Partitions |-> None],
            members |-> [m \in Members |-> Absent], partition_epoch |-> [p \in Partitions |-> 0]]

NoReply == [said |-> FALSE, wait |-> 0, epoch |-> 0, set |-> {}]
NoLetter == [there |-> FALSE, epoch |-> 0, set |-> {}]

Client(stage, late) ==
    [stage |-> stage, epoch |-> 0, owned |-> {}, given |-> {}, reply |-> NoReply, late |-> late]

\* What a client has that does not say what it has.
Untold == Partitions \cup {"untold"}

Init == state = [
    loaded |-> TRUE, committed |-> NoGroup, pending |-> <<>>,
    clients |-> [m \in Members |-> Client("Out", NoLetter)], regressed |-> FALSE,
    used |-> [joins |-> 0, leaves |-> 0, crashes |-> 0, expiries |-> 0, failovers |-> 0, lost |-> 0, late |-> 0]]

\* With KIP-848 the coordinator's memory is what the whole log leads to.
GroupOf(s) == IF s.pending = <<>> THEN s.committed ELSE Last(s.pending)
Holding(member) == member.assigned \cup member.revoking
Present(g) == {m \in Members : g.members[m].present}
TargetOf(g, m) == {p \in Partitions : g.target[p] = m}

-----------------------------------------------------------------------------
(* The coordinator: step/consumer.rs.                                      *)

Free(epochs, set) == [p \in Partitions |-> IF p \in set THEN 0 ELSE epochs[p]]
Occupy(epochs, set, epoch) == [p \in Partitions |-> IF p \in set THEN epoch + 1 ELSE epochs[p]]

Update(g, m, after) ==
    LET before == g.members[m]
        epochs == IF AssignmentPartitionEpoch
            THEN Occupy(Free(g.partition_epoch, Holding(before)), Holding(after), after.epoch)
            ELSE Occupy(Free(Occupy(Free(g.partition_epoch, before.assigned), after.assigned, after.epoch),
                             before.revoking), after.revoking, after.epoch)
    IN [g EXCEPT !.members[m] = after, !.partition_epoch = epochs]

Remove(g, m) ==
    [g EXCEPT !.partition_epoch = Free(@, Holding(g.members[m])),
              !.members[m] = Absent,
              !.target = [p \in Partitions |-> IF @[p] = m THEN None ELSE @[p]],
              !.epoch = @ + 1]

Admits(g, m, epoch, owned) ==
    LET known == g.members[m]
        lags == /\ epoch = known.previous /\ epoch < known.epoch
                /\ owned \subseteq known.assigned \/ ~MemberPreviousOwned
    IN IF known.present THEN epoch = known.epoch \/ lags \/ ~MemberEpoch ELSE epoch = 0

Admitted(g, m) ==
    IF g.members[m].present THEN g
    ELSE [g EXCEPT !.members[m] = [Absent EXCEPT !.present = TRUE], !.epoch = @ + 1]

Targets(members) ==
    LET count(t, m) == Cardinality({p \in Partitions : t[p] = m})
    IN {t \in [Partitions -> members] : \A a, b \in members : count(t, a) <= count(t, b) + 1}

Targeted(g) ==
    IF g.epoch > g.target_epoch
    THEN {[g EXCEPT !.target = t, !.target_epoch = g.epoch] : t \in Targets(Present(g))}
    ELSE {g}

Advance(g, m, owned) ==
    LET known == g.members[m]
        target == TargetOf(g, m)
        kept == known.assigned \cap target
        revoking == known.assigned \ target
        waits(set) == owned \cap set # {} /\ AssignmentRevokeFirst
        wanted == target \ kept
        unreleased == IF AssignmentReleaseFirst
            THEN {p \in wanted : g.partition_epoch[p] # 0 /\ p \notin known.revoking} ELSE {}
    IN CASE known.status = "Stable" /\ known.epoch = g.target_epoch -> g
         [] known.status = "Unrevoked" /\ waits(known.revoking) -> g
         [] waits(revoking) ->
              Update(g, m, [known EXCEPT !.status = "Unrevoked", !.previous = known.epoch,
                                         !.epoch = IF AssignmentOldEpoch THEN @ ELSE g.target_epoch,
                                         !.assigned = kept, !.revoking = revoking])
         [] OTHER ->
              Update(g, m, [known EXCEPT !.status = IF unreleased = {} THEN "Stable" ELSE "Unreleased",
                                         !.previous = known.epoch, !.epoch = g.target_epoch,
                                         !.assigned = kept \cup (wanted \ unreleased), !.revoking = {}])

\* The groups that a heartbeat may lead to, if it is not refused.
Handled(g, m, epoch, owned) == {Advance(t, m, owned) : t \in Targeted(Admitted(g, m))}

-----------------------------------------------------------------------------
(* Steps: step.rs and step/client.rs.                                      *)

Appended(s, g) == IF Len(s.pending) >= Uncommitted THEN {} ELSE {[s EXCEPT !.pending = Append(@, g)]}
Wait(s) == IF CoordinatorReplyCommitted THEN Len(s.pending) ELSE 0
Idle(c) == ~c.reply.said
Asks(c) == Idle(c) /\ c.stage \in {"Joining", "In"}
Told(c) == IF c.owned = c.given \/ ~MemberReconciledOwned THEN c.owned ELSE Untold

Enter(s, m) ==
    IF s.clients[m].stage # "Out" \/ s.used.joins >= Joins THEN {}
    ELSE {[s EXCEPT !.clients[m].stage = "Joining", !.used.joins = @ + 1]}

Heartbeat(s, m) ==
    LET c == s.clients[m]
        g == GroupOf(s)
        answer(t, known) ==
            [t EXCEPT !.clients[m].reply = [said |-> TRUE, wait |-> Wait(t), epoch |-> known.epoch, set |-> known.assigned]]
        after(h) ==
            LET known == h.members[m]
            IN CASE h # g -> {answer(t, known) : t \in Appended(s, h)}
                 [] h = g /\ c.epoch = known.epoch /\ c.given = known.assigned -> {}
                 [] OTHER -> {answer(s, known)}
    IN CASE ~s.loaded \/ ~Asks(c) -> {}
         [] ~Admits(g, m, c.epoch, Told(c)) -> {[s EXCEPT !.clients[m] = Client("Joining", c.late)]}
         [] OTHER -> UNION {after(h) : h \in Handled(g, m, c.epoch, Told(c))}

Receive(s, m) ==
    LET c == s.clients[m]
        r == c.reply
    IN IF Idle(c) \/ r.wait > 0 THEN {}
       ELSE {[s EXCEPT !.clients[m] = [c EXCEPT !.stage = "In", !.epoch = r.epoch, !.given = r.set, !.reply = NoReply],
                       !.regressed = @ \/ (c.stage = "In" /\ r.epoch < c.epoch)]}

Reconcile(s, m) ==
    LET c == s.clients[m]
    IN IF c.stage # "In" \/ c.owned = c.given THEN {} ELSE {[s EXCEPT !.clients[m].owned = c.given]}

Leave(s, m) ==
    LET c == s.clients[m]
        t == [s EXCEPT !.clients[m] = Client("Out", c.late), !.used.leaves = @ + 1]
    IN CASE ~s.loaded \/ c.stage # "In" \/ s.used.leaves >= Leaves -> {}
         [] GroupOf(s).members[m].present -> Appended(t, Remove(GroupOf(s), m))
         [] OTHER -> {t}

Crash(s, m) ==
    LET c == s.clients[m]
    IN IF c.stage \in {"Out", "Gone"} \/ s.used.crashes >= Crashes THEN {}
       ELSE {[s EXCEPT !.clients[m] = Client("Gone", c.late), !.used.crashes = @ + 1]}

IsSilent(s, m) ==
    LET c == s.clients[m]
    IN \/ c.stage \in {"Gone", "Out"}
       \/ Asks(c) /\ ~Admits(GroupOf(s), m, c.epoch, Told(c))

Expire(s, m) ==
    LET silent == IsSilent(s, m)
        t == IF silent THEN s ELSE [s EXCEPT !.used.expiries = @ + 1]
    IN IF ~s.loaded \/ ~GroupOf(s).members[m].present \/ (~silent /\ s.used.expiries >= Expiries) THEN {}
       ELSE Appended(t, Remove(GroupOf(s), m))

Delay(s, m) ==
    LET c == s.clients[m]
    IN IF ~Asks(c) \/ c.late.there \/ s.used.late >= Late THEN {}
       ELSE {[s EXCEPT !.clients[m].late = [there |-> TRUE, epoch |-> c.epoch, set |-> Told(c)], !.used.late = @ + 1]}

Arrive(s, m) ==
    LET l == s.clients[m].late
        g == GroupOf(s)
        t == [s EXCEPT !.clients[m].late = NoLetter]
    IN CASE ~s.loaded \/ ~l.there -> {}
         [] ~Admits(g, m, l.epoch, l.set) -> {t}
         [] OTHER -> UNION {IF h = g THEN {t} ELSE Appended(t, h) : h \in Handled(g, m, l.epoch, l.set)}

Lose(s, m) ==
    IF Idle(s.clients[m]) \/ s.used.lost >= Lost THEN {}
    ELSE {[s EXCEPT !.clients[m].reply = NoReply, !.used.lost = @ + 1]}

Replicate(s) ==
    LET sooner(c) == [c EXCEPT !.reply.wait = IF @ > 0 THEN @ - 1 ELSE 0]
    IN IF ~s.loaded \/ s.pending = <<>> THEN {}
       ELSE {[s EXCEPT !.committed = Head(s.pending), !.pending = Tail(@),
                       !.clients = [m \in Members |-> sooner(@[m])]]}

Failover(s) ==
    LET hears(c) == IF c.reply.wait > 0 THEN [c EXCEPT !.reply = NoReply] ELSE c
        kept(n) == IF n = 0 THEN s.committed ELSE s.pending[n]
    IN IF ~s.loaded \/ s.used.failovers >= Failovers THEN {}
       ELSE {[s EXCEPT !.committed = IF CoordinatorLoadFirst THEN kept(n) ELSE NoGroup, !.pending = <<>>,
                       !.clients = [m \in Members |-> hears(@[m])], !.loaded = ~CoordinatorLoadFirst,
                       !.used.failovers = @ + 1] : n \in 0..Len(s.pending)}

Load(s) == IF s.loaded THEN {} ELSE {[s EXCEPT !.loaded = TRUE]}

Steps(s) ==
    UNION {Replicate(s), Failover(s), Load(s)} \cup
    UNION {UNION {Enter(s, m), Heartbeat(s, m), Receive(s, m), Reconcile(s, m), Leave(s, m), Crash(s, m),
                  Expire(s, m), Delay(s, m), Arrive(s, m), Lose(s, m)} : m \in Members}

Next == \E t \in Steps(state) \ {state} : state' = t
Spec == Init /\ [][Next]_state

Symmetry == Permutations(Members) \cup Permutations(Partitions)

-----------------------------------------------------------------------------
(* The invariants: properties.rs.                                          *)

Group == GroupOf(state)

IsCurrent(m) ==
    LET c == state.clients[m]
        known == Group.members[m]
    IN c.stage = "In" /\ known.present /\ c.epoch = known.epoch

OneOwner ==
    \A a, b \in Members :
        a # b /\ IsCurrent(a) /\ IsCurrent(b) => state.clients[a].owned \cap state.clients[b].owned = {}

AssignedOnce == \A a, b \in Members : a # b => Holding(Group.members[a]) \cap Holding(Group.members[b]) = {}

PartitionEpochValid ==
    \A p \in Partitions :
        LET has == {m \in Present(Group) : p \in Holding(Group.members[m])}
        IN IF has = {} THEN Group.partition_epoch[p] = 0
           ELSE \E m \in has : Group.partition_epoch[p] = Group.members[m].epoch + 1

StableGroupValid ==
    \A m \in Present(Group) :
        LET known == Group.members[m]
        IN known.status = "Stable" /\ known.epoch = Group.target_epoch =>
               known.assigned = TargetOf(Group, m) /\ known.revoking = {}

EpochCommitted ==
    /\ \A m \in Members : state.clients[m].stage = "In" => state.clients[m].epoch <= state.committed.epoch
    /\ \A m \in Members : Group.members[m].epoch <= Group.target_epoch /\ Group.members[m].previous <= Group.epoch
    /\ Group.target_epoch <= Group.epoch
    /\ state.committed.epoch <= Group.epoch
    /\ Group.epoch <= 14

MemberEpochForward == ~state.regressed

AtHome(m) ==
    LET c == state.clients[m]
    IN IsCurrent(m) /\ c.owned = Group.members[m].assigned /\ c.owned = c.given

Wants(m) == state.clients[m].stage \in {"Joining", "In"}

Settled ==
    /\ state.loaded /\ state.pending = <<>>
    /\ \A m \in Members : Idle(state.clients[m]) /\ ~state.clients[m].late.there
    /\ \A m \in Members : Wants(m) => AtHome(m)
    /\ \A m \in Present(Group) : Wants(m)
    /\ \/ Present(Group) = {}
       \/ UNION {state.clients[m].owned : m \in {n \in Members : IsCurrent(n)}} = Partitions

NoRebalanceEnds ==
    ~ (Settled /\ Cardinality({m \in Members : IsCurrent(m) /\ state.clients[m].owned # {}}) > 1)

NoZombieRefused ==
    \A m \in Members : ~ (state.clients[m].stage = "In" /\ state.clients[m].owned # {} /\ ~IsCurrent(m))
=============================================================================
