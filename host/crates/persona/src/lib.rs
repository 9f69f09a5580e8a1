//! Layer 5: personas and their constraints.
