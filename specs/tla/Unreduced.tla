----------------------------- MODULE Unreduced -----------------------------
(***************************************************************************)
(* The normal form loses nothing: whatever can happen in a state, short of *)
(* what changes nothing but the form, can happen in its normal form, with  *)
(* the same outcome but for the form; and both keep the same promises.     *)
(*                                                                         *)
(* To be checked in the states as they are, with NormalForm = FALSE. The   *)
(* Rust argues for each case of normal.rs in a comment; this tries them.   *)
(***************************************************************************)
EXTENDS Replication

Nexts(s) ==
    UNION {Register(s), Fence(s), Unfence(s), Elect(s), AlterPartition(s), Crash(s), Restart(s), Apply(s), Produce(s),
           Duplicate(s), Ack(s), HighWatermark(s), Read(s), Fetch(s), Receive(s), Respond(s), Fetched(s),
           ProposeIsr(s), LearnIsr(s)}

\* A fetch to a broker that has no view yet is as good as none: it will be refused, since the broker comes back to a later
\* epoch. normal.rs drops it while the broker is down, and keeps it once it runs.
WithoutTheRefused(s) ==
    LET refused(flight) ==
            /\ FetchLeaderEpoch /\ ElectionNewEpoch /\ RegistrationCatchUp
            /\ flight # None /\ flight.phase \in {"Requested", "Received"} /\ View(s, flight.leader) = None
    IN  [s EXCEPT !.brokers = [id \in Brokers |-> [@[id] EXCEPT
            !.fetches = [l \in Brokers |-> IF refused(@[l]) THEN None ELSE @[l]]]]]

Form(s) == InNormalForm(WithoutTheRefused(s))

LosesNothing ==
    LET normal == Form(state)
    IN  {Form(next) : next \in Nexts(state)} \subseteq {Form(next) : next \in Nexts(normal)} \union {normal}

=============================================================================
