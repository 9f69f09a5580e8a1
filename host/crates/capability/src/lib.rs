//! Layer 3: manifests, registry, import check, linker from grants, host functions and one invocation.
