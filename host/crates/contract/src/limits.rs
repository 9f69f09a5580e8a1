//! Every limit, with its default and the attack it stops. A capability may ask for less or more; the policy has the
//! last word.

use serde::{Deserialize, Serialize};

/// Longest identifier, in bytes. Stops a guest from filling logs and indexes with names.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest host name, in bytes (RFC 1035).
pub const HOST_BYTES_MAX: usize = 253;
/// Deepest nesting of any JSON document. Stops stack exhaustion in parsers and validators.
pub const JSON_DEPTH_MAX: usize = 64;
/// Memory that the values of one JSON text may take, in bytes, as estimated while it is read. Stops a text of empty
/// objects from taking a hundred times its own size.
pub const JSON_MEMORY_BYTES_MAX: usize = 128 << 20;
/// Largest signed document, in bytes. Stops a file or peer from exhausting memory before the signature is checked.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Largest component, in bytes. Stops compile-time exhaustion; checked before anything reads the component.
pub const COMPONENT_BYTES_MAX: usize = 32 << 20;
/// Longest compilation, in milliseconds; the compiling child process is killed then.
pub const COMPILE_MS_MAX: u64 = 30_000;
/// Memory of the compiling child process, in bytes.
pub const COMPILE_MEMORY_BYTES_MAX: u64 = 2 << 30;
/// Bytes that guest and host may copy to each other in one host call. Stops a huge list argument.
pub const HOSTCALL_BYTES_MAX: usize = 8 << 20;
/// Handles a component instance may hold at once. Stops exhaustion through resources.
pub const COMPONENT_HANDLES_MAX: usize = 4096;
/// Entries of the host's resource table for one call. Stops exhaustion through resources, each of which may hold as much
/// as the fields of a message, [`HTTP_FIELD_BYTES_MAX`]. What holds more has a bound of its own: requests that are not sent,
/// [`HTTP_REQUESTS_UNSENT_MAX`]; those that are, `http_requests`; streams out of files and into them. All resources but the last
/// two together hold at most 38 MiB and some small texts, as the fields are counted: names, values, and what keeps each of them.
pub const RESOURCE_TABLE_ENTRIES_MAX: usize = 1024;
/// Outgoing requests that a call has made and not sent, at once. Stops exhaustion through requests, each of which may hold four
/// times [`HTTP_FIELD_BYTES_MAX`]: its fields, its trailers, its path, and what was written of its body.
pub const HTTP_REQUESTS_UNSENT_MAX: usize = 64;
/// Bytes of randomness that one request may ask for. Stops a guest from draining the host's generator.
pub const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Total size of the fields of one HTTP message, in bytes. Stops header floods in both directions.
pub const HTTP_FIELD_BYTES_MAX: usize = 32 << 10;
/// Stack of a guest, in bytes. Stops deep recursion.
pub const WASM_STACK_BYTES_MAX: usize = 512 << 10;
/// Length of one epoch, in milliseconds: how long a guest can hold a thread before it yields.
pub const EPOCH_MS: u64 = 10;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:expr,)*) => {
        /// The limits of one call. Every field is enforced; the unit is the last word of its name.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// What a manifest asks for, or what a policy sets: an absent field says nothing.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct LimitsRequest {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $name: Option<u64>,)*
        }

        impl Limits {
            /// Names and values, in the order of the documentation.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// The limits of a call: what is asked for, else the default, and never more than the ceiling.
            pub fn resolve(default: &Self, request: &LimitsRequest, ceiling: &Self) -> Self {
                Self { $($name: request.$name.unwrap_or(default.$name).min(ceiling.$name),)* }
            }

            /// These limits, with the fields that `change` names replaced.
            pub fn with(&self, change: &LimitsRequest) -> Self {
                Self { $($name: change.$name.unwrap_or(self.$name),)* }
            }
        }

        impl LimitsRequest {
            /// Names and values of the fields that are present.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
            }
        }
    };
}

limits! {
    /// All linear memories of the call together. Stops memory bombs.
    memory_bytes = 64 << 20,
    /// Fuel units of wasmtime (about one per instruction), metered engine only. Stops endless work, the same amount on every machine.
    fuel = 1_000_000_000,
    /// Time on a processor, counted in epochs. Stops a guest that computes for too long on either engine.
    compute_ms = 10_000,
    /// The whole call with everything it waits for.
    wall_ms = 30_000,
    /// Elements of all tables together. Stops table bombs.
    table_elements = 20_000,
    /// Core instances in one component instance. Stops instance bombs.
    instances = 16,
    /// JSON text that the caller sends.
    input_bytes = 1 << 20,
    /// JSON text that the guest answers.
    output_bytes = 4 << 20,
    /// Log text of one call, in which a line counts as 64 bytes at least; what comes after is counted and dropped. Stops log floods.
    log_bytes = 64 << 10,
    /// Outgoing HTTP requests of one call. Stops a guest from being used to flood others.
    http_requests = 16,
    /// Body of one outgoing HTTP request.
    http_request_bytes = 8 << 20,
    /// Body of one HTTP response. Stops an endpoint from filling memory.
    http_response_bytes = 8 << 20,
    /// One HTTP exchange from the first byte to the last. Stops slow-loris endpoints.
    http_ms = 10_000,
    /// One memory record.
    memory_value_bytes = 1 << 20,
    /// Memory records that a call may read, write or delete, and pages that it may list; each step of a batch counts. Stops
    /// a guest from keeping the store busy, and from filling the audit log: each of them is an event.
    memory_calls = 1000,
    /// One memory function from start to end. Stops a store that hangs from holding the call.
    memory_ms = 5_000,
    /// Secrets that a call may inject, reveal or store. Stops a guest from flooding the place that keeps them.
    secret_calls = 64,
    /// One secret function, or fetching the secrets of one request, from start to end. Stops a place that hangs.
    secret_ms = 5_000,
    /// Standard output and error of one program together.
    exec_output_bytes = 1 << 20,
    /// One program from start to end, with the wait for its turn. Stops programs that hang.
    exec_ms = 10_000,
}

/// What a call used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Fuel units; none on the epoch-only engine.
    pub fuel: Option<u64>,
    /// Largest sum of all linear memories.
    pub memory_bytes_peak: u64,
    /// Epochs whose end found the guest computing, times the length of an epoch: right to about one epoch for each
    /// stretch of computing.
    pub compute_ms: u64,
    /// From the request to the answer, in microseconds.
    pub wall_us: u64,
    /// Size of the input.
    pub input_bytes: u64,
    /// Size of the output.
    pub output_bytes: u64,
    /// Log text kept, as the limit counts it.
    pub log_bytes: u64,
    /// Log text dropped at the limit, counted in the same way.
    pub log_bytes_dropped: u64,
    /// Outgoing HTTP requests that were sent.
    pub http_requests: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolving_takes_the_request_and_stops_at_the_ceiling() {
        let default = Limits::default();
        let request = LimitsRequest {
            fuel: Some(5),
            wall_ms: Some(u64::MAX),
            ..LimitsRequest::default()
        };
        let limits = Limits::resolve(&default, &request, &default);
        assert_eq!(limits.fuel, 5);
        assert_eq!(limits.wall_ms, default.wall_ms);
        assert_eq!(limits.memory_bytes, default.memory_bytes);
    }

    #[test]
    fn what_a_call_can_park_in_the_host_is_less_than_its_own_memory() {
        // A request holds four times what any other resource may: one is counted among all.
        let parked = (RESOURCE_TABLE_ENTRIES_MAX + 3 * HTTP_REQUESTS_UNSENT_MAX) * HTTP_FIELD_BYTES_MAX;
        assert_eq!(parked, 38 << 20);
        assert!(parked as u64 <= Limits::default().memory_bytes);
    }

    #[test]
    fn unknown_names_are_refused() {
        assert!(serde_json::from_str::<LimitsRequest>(r#"{"memory_mb":1}"#).is_err());
        assert!(serde_json::from_str::<LimitsRequest>(r#"{"fuel":-1}"#).is_err());
    }

    #[test]
    fn every_limit_is_documented_with_its_default() {
        let document = include_str!("../../../../docs/defaults.md");
        let defaults = Limits::default();
        for (name, value) in defaults.entries() {
            let line = format!("\n| `{name}` | {value} | ");
            assert!(
                document.contains(&line),
                "docs/defaults.md has no line for `{name}` with {value}"
            );
        }
        let of_limit = |line: &&str| {
            line.strip_prefix("| `")
                .is_some_and(|name| name.starts_with(char::is_lowercase))
        };
        let lines = document.lines().filter(of_limit).count();
        assert_eq!(
            lines,
            defaults.entries().len(),
            "docs/defaults.md documents a limit that does not exist"
        );
    }

    #[test]
    fn every_constant_is_documented_with_its_value() {
        let document = include_str!("../../../../docs/defaults.md");
        let documented = [
            ("NAME_BYTES_MAX", NAME_BYTES_MAX as u64),
            ("HOST_BYTES_MAX", HOST_BYTES_MAX as u64),
            ("JSON_DEPTH_MAX", JSON_DEPTH_MAX as u64),
            ("JSON_MEMORY_BYTES_MAX", JSON_MEMORY_BYTES_MAX as u64),
            ("DOCUMENT_BYTES_MAX", DOCUMENT_BYTES_MAX as u64),
            ("COMPONENT_BYTES_MAX", COMPONENT_BYTES_MAX as u64),
            ("COMPILE_MS_MAX", COMPILE_MS_MAX),
            ("COMPILE_MEMORY_BYTES_MAX", COMPILE_MEMORY_BYTES_MAX),
            ("HOSTCALL_BYTES_MAX", HOSTCALL_BYTES_MAX as u64),
            ("COMPONENT_HANDLES_MAX", COMPONENT_HANDLES_MAX as u64),
            ("RESOURCE_TABLE_ENTRIES_MAX", RESOURCE_TABLE_ENTRIES_MAX as u64),
            ("HTTP_REQUESTS_UNSENT_MAX", HTTP_REQUESTS_UNSENT_MAX as u64),
            ("RANDOM_BYTES_MAX", RANDOM_BYTES_MAX),
            ("HTTP_FIELD_BYTES_MAX", HTTP_FIELD_BYTES_MAX as u64),
            ("WASM_STACK_BYTES_MAX", WASM_STACK_BYTES_MAX as u64),
            ("EPOCH_MS", EPOCH_MS),
        ];
        for (name, value) in documented {
            let line = format!("\n| `{name}` | {value} | ");
            assert!(
                document.contains(&line),
                "docs/defaults.md has no line for `{name}` with {value}"
            );
        }
        let constants = include_str!("limits.rs")
            .lines()
            .filter(|line| line.starts_with("pub const "));
        assert_eq!(
            constants.count(),
            documented.len(),
            "a constant is missing here and in docs/defaults.md"
        );
    }
}
