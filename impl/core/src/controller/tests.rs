//! The controller: guards by name, and its invariants over random inputs.
