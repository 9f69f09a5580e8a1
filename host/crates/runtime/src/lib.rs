//! Layer 1: the wasmtime engines, compilation and its cache, limits, deadlines, process limits, files, clock and entropy.
