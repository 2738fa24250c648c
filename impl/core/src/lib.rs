//! The broker's protocol state machines: pure, no IO.
