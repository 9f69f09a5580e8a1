//! Layer 6: the one dispatch path, the operator's policy and authorisation.
