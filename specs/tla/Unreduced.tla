----------------------------- MODULE Unreduced -----------------------------
(***************************************************************************)
(* The normal form loses nothing: whatever can happen in a state, short of *)
(* what changes nothing but the form, can happen in its normal form, with  *)
(* the same outcome but for the form; and both keep the same promises.     *)
(*                                                                         *)
(* To be checked in the states as they are, with NormalForm = FALSE. The   *)
(* Rust argues for each case of normal.rs in a comment; this tries them.   *)
(*                                                                         *)
(* UnreducedSpec takes also those steps that model.rs leaves out because   *)
(* larger ones or none at all lead as far: no invariant may need that.     *)
(***************************************************************************)
EXTENDS Replication

Nexts(s) ==
    UNION {Register(s), Fence(s), Unfence(s), Elect(s), AlterPartition(s), Crash(s), Stop(s), Restart(s), Apply(s),
           Produce(s), Duplicate(s), Ack(s), HighWatermark(s), Read(s), Fetch(s), Receive(s), Respond(s), Fetched(s),
           ProposeIsr(s), LearnIsr(s)}

\* A fetch to a broker that has no view yet is as good as none: it will be refused, since the broker comes back to a later
\* epoch. normal.rs drops it while the broker is down, and keeps it once it runs.
WithoutTheRefused(s) ==
    LET refused(flight) ==
            /\ FetchLeaderEpoch /\ ElectionNewEpoch /\ RegistrationCatchUp
            /\ flight # None /\ flight.phase \in {"Requested", "Received"} /\ View(s, flight.leader) = None
    IN  [s EXCEPT !.brokers = [id \in Brokers |-> [@[id] EXCEPT
            !.fetches = [l \in Brokers |-> IF refused(@[l]) THEN None ELSE @[l]],
            !.stale = Only(@, LAMBDA f : ~refused(f))]]]

Form(s) == InNormalForm(WithoutTheRefused(s))

LosesNothing ==
    LET normal == Form(state)
    IN  {Form(next) : next \in Nexts(state)} \subseteq {Form(next) : next \in Nexts(normal)} \union {normal}

-----------------------------------------------------------------------------

\* The high watermark rises a part of the way, and consumers read a part of what they may.
Partial(s) ==
    UNION {LET b == s.brokers[id]
           IN  {[s EXCEPT !.brokers[id].high_watermark = to]
                    : to \in {to \in 1..HighWatermarkLimit(s, id) : to > b.high_watermark}}
               \union
               {[s EXCEPT !.seen = Lengthen(@, b.log, end)] : end \in {end \in 1..b.high_watermark : Reads}}
            : id \in Leaders(s)}

\* A follower asks once more although nothing has changed.
Again(s) ==
    {Sent(s, id, View(s, id).leader)
        : id \in {id \in Brokers : View(s, id) # None /\ View(s, id).leader \notin {None, id}}}

\* An empty response that teaches the follower nothing.
Empty(s) ==
    LET empty(f) == [f EXCEPT !.phase = "Records",
                              !.answer = [records |-> <<>>, high_watermark |-> s.brokers[f.leader].high_watermark]]
        current(f) ==
            /\ Leads(s, f.leader)
            /\ View(s, f.leader).leader_epoch = f.leader_epoch
            /\ f.fetch_offset <= End(s.brokers[f.leader].log)
    IN  UNION {{Becomes(s, id, fetch, empty(fetch.flight)) : fetch \in {p \in Parked(s, id) : current(p.flight)}}
                : id \in Brokers}

UnreducedSpec == Init /\ [][Next \/ To(Partial(state)) \/ To(Again(state)) \/ To(Empty(state))]_state

=============================================================================
