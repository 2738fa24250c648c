---------------------------- MODULE Convergence ----------------------------
(***************************************************************************)
(* From every state, with nothing going wrong any more, the steps that     *)
(* heal lead to a state in which all is well.                              *)
(*                                                                         *)
(* The engine follows the healing of each state by itself: one fixed order *)
(* of steps, and where steps of one rank compete, always the same one. The *)
(* twin says it in TLA+'s own way and asks for more: healing may begin in  *)
(* any state, and whichever of the competing steps is taken, it comes to   *)
(* its end. The order of the ranks is the same.                            *)
(***************************************************************************)
EXTENDS Replication

VARIABLE healing

ConvergenceInit == Init /\ healing = FALSE

Begin == ~healing /\ healing' = TRUE /\ UNCHANGED state

HealingStep == healing /\ ~Settled(state) /\ To(Heal(state, 0)) /\ UNCHANGED healing

ConvergenceNext == (~healing /\ Next /\ UNCHANGED healing) \/ Begin \/ HealingStep

ConvergenceSpec ==
    ConvergenceInit /\ [][ConvergenceNext]_<<state, healing>> /\ WF_<<state, healing>>(HealingStep)

ConvergenceHolds == healing ~> (healing /\ Settled(state))

=============================================================================
