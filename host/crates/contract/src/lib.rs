//! Words shared by every layer: identifiers, permissions, scopes, grants, limits, errors, events and signed documents. No I/O, no async runtime.
