//! What the wire may cost: every bound of the server, with its default and the attack it stops. It reads no file.

use std::time::Duration;

use serde::Deserialize;

/// A number of the configuration that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[serve.limits] {key} = {value} is not between {min} and {max}")]
pub struct OutOfRange {
    /// Which key.
    pub key: &'static str,
    /// What it says.
    pub value: u64,
    /// What it may say at least.
    pub min: u64,
    /// What it may say at most.
    pub max: u64,
}

/// What one of many may have of a total, where the configuration does not say: one part in so many, and at least one. Stops one
/// from taking all of a total that was made smaller.
const SHARE: u64 = 4;
/// What an address or a caller may have at least of a total that has as many, where the configuration does not say. Stops a small
/// host from refusing the second request of the only caller that it has.
const SHARE_OF_ONE_MIN: u64 = 2;
/// How many callers may keep all that one of them may: what all keep together is bounded by so many times as much. Stops callers of
/// whom there is any number, since each subject of an issuer is one, from filling memory each within its own bounds.
const CALLERS_IN_FULL: u64 = 32;

/// How long it may take to record the end of a call, and to say what it used, once `handler_ms` has ended it. Stops a log that hangs
/// from keeping callers for ever.
pub(crate) const TELL: Duration = Duration::from_secs(1);

/// Most that `handler_ms` may be.
const HANDLER_MS_MAX: u64 = 3_600_000;

macro_rules! bounds {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $min:expr => $max:expr;)*) => {
        /// The bounds of the server. Every field is enforced; the unit is the last word of its name.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Bounds {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Bounds {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        /// What a configuration says of them: an absent field says nothing.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct BoundsRequest {
            $($(#[$doc])* pub $name: Option<u64>,)*
        }

        impl Bounds {
            /// What the configuration says, else the default. The default of a share follows its total.
            ///
            /// # Errors
            /// A number that makes no sense.
            pub fn resolve(request: &BoundsRequest) -> Result<Self, OutOfRange> {
                let request = request.with_shares();
                Ok(Self { $($name: in_range(stringify!($name), request.$name.unwrap_or($default), $min, $max)?,)* })
            }

            /// Names and values, in the order of the documentation.
            pub fn entries(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Names with the least and the most that each may be.
            #[cfg(test)]
            fn ranges() -> Vec<(&'static str, u64, u64)> {
                vec![$((stringify!($name), $min, $max),)*]
            }
        }
    };
}

bounds! {
    /// Connections at once, over all listeners. Stops a flood of connections from using up descriptors and memory.
    connections_max = 10_000, 1 => 1_000_000;
    /// The same from one address, of IPv6 from one network of 64 bits; a quarter of them, where nobody says. Stops one machine
    /// from taking the places of all.
    connections_per_address_max = share_of_one(10_000), 1 => 1_000_000;
    /// Requests between their first byte of body and their last byte of answer. Stops bodies and answers from filling memory.
    requests_max = 2_000, 1 => 1_000_000;
    /// The same of one caller; a quarter of them, where nobody says. Stops one whose bodies come slowly from taking the places of
    /// all.
    requests_per_caller_max = share_of_one(2_000), 1 => 1_000_000;
    /// Bytes of answers that are not sent yet, beyond which no further answer begins. Stops callers who do not read what they asked for
    /// from filling memory.
    unsent_bytes_max = 256 << 20, 1 => 1 << 40;
    /// The same of one caller; a quarter of them, where nobody says. Stops one who does not read from taking the room of all.
    unsent_bytes_per_caller_max = share_of_one(256 << 20), 1 => 1 << 40;
    /// Request line and header fields together. Stops header floods.
    header_bytes_max = 32 << 10, 8 << 10 => 1 << 20;
    /// Path and query. Stops addresses that fill logs.
    uri_bytes_max = 4 << 10, 64 => 64 << 10;
    /// Body of a request. Stops bodies that fill memory before anything reads them.
    body_bytes_max = 1 << 20, 1 => 64 << 20;
    /// Requests at once on one connection of HTTP/2. Stops one connection from taking the places of all.
    streams_max = 100, 1 => 10_000;
    /// How many requests more than it lets be answered a connection of HTTP/2 may take back. Stops rapid resets.
    resets_max = 100, 1 => 10_000;
    /// The handshake of TLS. Stops slow-loris callers before their first request.
    handshake_ms = 10_000, 10 => 600_000;
    /// From the first byte of a request to the end of its header fields. Stops slow-loris callers.
    header_ms = 10_000, 10 => 600_000;
    /// From the end of the header fields to the end of the body. Stops the same with the body.
    body_ms = 30_000, 10 => 600_000;
    /// The call itself, with everything it waits for. Stops callers from being kept for ever.
    handler_ms = 60_000, 10 => HANDLER_MS_MAX;
    /// From the first byte of an answer to its last. Stops callers who read slowly.
    write_ms = 60_000, 10 => 600_000;
    /// A connection on which nothing is asked. Stops callers who keep connections.
    idle_ms = 60_000, 10 => 3_600_000;
    /// How long the server goes on as before once it is told to end, and says only that it is not ready. Stops a balancer that looks
    /// now and then from sending callers to one that takes no connections any more.
    drain_delay_ms = 0, 0 => 600_000;
    /// How long calls that are under way may go on once the server is told to end.
    drain_ms = 30_000, 0 => 3_600_000;
    /// How often the files of TLS are looked at, to take those that changed.
    tls_look_ms = 10_000, 10 => 3_600_000;
    /// Requests a second from one address to `/health`, `/ready` and others that ask nobody who they are. Stops floods of them.
    public_per_second = 50, 1 => 1_000_000;
    /// Receipts made at once, for one caller and for all together; for a caller that has none, twice as many. Stops requests from reading
    /// the audit log all at a time: each reads up to one segment.
    receipts_max = 4, 1 => 1_000;
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    replay_ms = 600_000, 10 => 86_400_000;
    /// How many of these are kept for one caller.
    replay_entries_max = 1_000, 1 => 1_000_000;
    /// How large all of them together may be for one caller.
    replay_bytes_max = 16 << 20, 1 => 1 << 30;
    /// Sessions of MCP for one caller, which revisions before 2026-07-28 have. Stops a caller from filling memory with them.
    mcp_sessions_max = 100, 1 => 1_000_000;
    /// A session of MCP in which nothing is said, no call is under way and no stream is open.
    mcp_session_idle_ms = 1_800_000, 10 => 86_400_000;
    /// Answers of MCP without an end for one caller, on which news come. Stops a caller from keeping all connections.
    mcp_streams_max = 100, 1 => 1_000_000;
    /// How long the signature of a request is good. Stops requests that were kept to be sent later.
    signature_age_ms = 300_000, 1_000 => 3_600_000;
    /// How far the clock of whoever signed may be ahead.
    signature_skew_ms = 30_000, 0 => 300_000;
    /// Signatures of one caller that are remembered until they are too old to be used again; one more is refused.
    signature_nonces_max = 10_000, 1 => 1_000_000;
}

impl BoundsRequest {
    /// With the shares that it does not name, of totals that it does.
    fn with_shares(&self) -> Self {
        let of = |own: Option<u64>, total: Option<u64>| own.or_else(|| total.map(share_of_one));
        Self {
            connections_per_address_max: of(self.connections_per_address_max, self.connections_max),
            requests_per_caller_max: of(self.requests_per_caller_max, self.requests_max),
            unsent_bytes_per_caller_max: of(self.unsent_bytes_per_caller_max, self.unsent_bytes_max),
            ..self.clone()
        }
    }
}

/// What one of many may have of a total.
pub(crate) fn share(total: u64) -> u64 {
    (total / SHARE).max(1)
}

/// What an address or a caller may have of it.
fn share_of_one(total: u64) -> u64 {
    share(total).max(SHARE_OF_ONE_MIN.min(total))
}

/// What all callers may keep together, where each may keep so much.
pub(crate) fn of_all(of_one: u64) -> u64 {
    of_one.saturating_mul(CALLERS_IN_FULL)
}

fn in_range(key: &'static str, value: u64, min: u64, max: u64) -> Result<u64, OutOfRange> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(OutOfRange { key, value, min, max })
    }
}

/// The line that lets more through than a bound that is so much now.
pub(crate) fn raise(key: &str, bound: u64) -> String {
    format!("aral.toml, [serve.limits]: {key} = N, N above {bound}")
}

/// A bound in milliseconds as a duration.
pub(crate) fn ms(bound: u64) -> Duration {
    Duration::from_millis(bound)
}

/// How long a call is under way at most, with what is said of it, where it may take so long.
pub(crate) fn call_max(handler_ms: u64) -> Duration {
    ms(handler_ms).saturating_add(TELL)
}

/// The same where the configuration lets a call take as long as it ever may.
pub(crate) fn longest_call() -> Duration {
    call_max(HANDLER_MS_MAX)
}

/// A bound as the size of something in memory.
pub(crate) fn size(bound: u64) -> usize {
    usize::try_from(bound).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_range_is_named_with_its_range() {
        let request = BoundsRequest {
            header_bytes_max: Some(100),
            ..BoundsRequest::default()
        };
        let refused = Bounds::resolve(&request).unwrap_err().to_string();
        assert_eq!(
            refused,
            "[serve.limits] header_bytes_max = 100 is not between 8192 and 1048576"
        );
        assert_eq!(Bounds::resolve(&BoundsRequest::default()), Ok(Bounds::default()));
    }

    #[test]
    fn a_share_that_nobody_names_is_a_quarter_of_its_total() {
        let shares = |total: Option<u64>, own: Option<u64>| {
            let bounds = Bounds::resolve(&BoundsRequest {
                connections_max: total,
                connections_per_address_max: own,
                requests_max: total,
                requests_per_caller_max: own,
                ..BoundsRequest::default()
            });
            let bounds = bounds.unwrap();
            (bounds.connections_per_address_max, bounds.requests_per_caller_max)
        };
        assert_eq!(shares(None, None), (2_500, 500));
        for (total, one) in [
            (1, 1),
            (2, 2),
            (3, 2),
            (7, 2),
            (8, 2),
            (12, 3),
            (1_000, 250),
            (1_000_000, 250_000),
        ] {
            assert_eq!(shares(Some(total), None), (one, one), "of {total}");
        }
        // Whoever waits for an issuer takes no more than a quarter.
        assert_eq!([1, 4, 7, 8].map(share), [1, 1, 1, 2]);
        assert_eq!(shares(Some(400), Some(500)), (500, 500), "what it says holds");
        assert_eq!(shares(None, Some(7)), (7, 7));
        let bytes = BoundsRequest {
            unsent_bytes_max: Some(1_000),
            ..BoundsRequest::default()
        };
        assert_eq!(Bounds::resolve(&bytes).unwrap().unsent_bytes_per_caller_max, 250);
        let none = BoundsRequest {
            requests_max: Some(0),
            ..BoundsRequest::default()
        };
        assert_eq!(Bounds::resolve(&none).unwrap_err().key, "requests_max");
    }

    #[test]
    fn every_bound_is_documented_with_its_default() {
        let document = include_str!("../../../../docs/defaults.md");
        for (name, value) in Bounds::default().entries() {
            let line = format!("\n| [serve.limits] `{name}` | {value} | ");
            assert!(
                document.contains(&line),
                "docs/defaults.md has no line for `{name}` with {value}"
            );
        }
        let lines = document
            .lines()
            .filter(|line| line.starts_with("| [serve.limits] "))
            .count();
        assert_eq!(lines, Bounds::default().entries().len());
        assert!(document.contains(&format!("\n| `CALLERS_IN_FULL` | {CALLERS_IN_FULL} | ")));
    }

    #[test]
    fn every_bound_is_documented_with_the_least_and_the_most_that_it_may_be() {
        let document = include_str!("../../../../docs/defaults.md");
        let ranges = Bounds::ranges();
        for (name, min, max) in &ranges {
            let line = format!("\n| `[serve.limits] {name}` | {min} | {max} |\n");
            assert!(document.contains(&line), "docs/defaults.md has no line{line}");
        }
        let lines = document.lines().filter(|line| line.starts_with("| `[serve.limits] "));
        assert_eq!(lines.count(), ranges.len());
    }
}
