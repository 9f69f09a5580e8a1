//! Lines of `[serve]` that do nothing as the rest of it stands. No start is refused for one: what makes it hold may come with the next
//! reading.

use aral_capability::Warning;
use aral_contract::id::CallerName;
use aral_protocol::{Bounds, ListenerOptions};

use super::{CallerConfig, ServeConfig};

/// What lets a caller in that nothing does.
const GIVE_A_KEY: &str = "aral.toml, [[serve.caller]]: keys = [\"SHA-256 of a key\"], also for a caller that signs; or on a listener of the loopback, [[serve.listener]]: anonymous = \"CALLER\"";
/// What lets somebody show a certificate.
const ASK_FOR_CERTIFICATES: &str =
    "aral.toml, [serve.listener.tls]: client_ca_file = \"clients.pem\"; or leave out `certificates`";

impl ServeConfig {
    /// Each with the line that ends it.
    pub fn lines_for_nothing(&self) -> Vec<Warning> {
        let without_way: Vec<_> = self.callers_without_way().collect();
        let mut all = Vec::new();
        if !without_way.is_empty() {
            all.push(Warning {
                message: format!(
                    "nothing shows who asks for {}: such a caller can never call",
                    quoted(&without_way)
                ),
                hint: GIVE_A_KEY.to_owned(),
            });
        }
        let shows = |caller: &&CallerConfig| !caller.certificates.is_empty() && !self.asks_for_certificates();
        let unasked: Vec<_> = self.callers.iter().filter(shows).map(|caller| &caller.name).collect();
        if !unasked.is_empty() {
            all.push(Warning {
                message: format!(
                    "no listener asks for certificates, and `certificates` says which are those of {}",
                    quoted(&unasked)
                ),
                hint: ASK_FOR_CERTIFICATES.to_owned(),
            });
        }
        all.extend(self.shares_of_more());
        all
    }

    /// Shares of one that are more than there is for all together.
    fn shares_of_more(&self) -> impl Iterator<Item = Warning> {
        let Bounds {
            connections_max,
            connections_per_address_max,
            requests_max,
            requests_per_caller_max,
            unsent_bytes_max,
            unsent_bytes_per_caller_max,
            ..
        } = self.bounds;
        let shares = [
            (
                "connections_per_address_max",
                connections_per_address_max,
                "connections_max",
                connections_max,
            ),
            (
                "requests_per_caller_max",
                requests_per_caller_max,
                "requests_max",
                requests_max,
            ),
            (
                "unsent_bytes_per_caller_max",
                unsent_bytes_per_caller_max,
                "unsent_bytes_max",
                unsent_bytes_max,
            ),
        ];
        let more = shares.into_iter().filter(|(_, share, _, total)| share > total);
        more.map(|(key, share, of, total)| Warning {
            message: format!(
                "[serve.limits] {key} = {share} bounds nothing: there is no more than {of} = {total} for all"
            ),
            hint: format!("aral.toml, [serve.limits]: {key} = N, N less than {total}; or leave it out, for a quarter"),
        })
    }

    /// Callers that can never call: nothing shows who they are, and no listener takes whoever says nothing for one of them. A signature
    /// shows nobody: it is checked once it is known who calls.
    fn callers_without_way(&self) -> impl Iterator<Item = &CallerName> {
        let without = self.callers.iter().filter(move |caller| !self.has_way(caller));
        without.map(|caller| &caller.name)
    }

    fn has_way(&self, caller: &CallerConfig) -> bool {
        let is_anonymous = |listener: &ListenerOptions| listener.anonymous.as_ref() == Some(&caller.name);
        !caller.keys.is_empty()
            || !caller.certificates.is_empty() && self.asks_for_certificates()
            || self.listeners.iter().any(is_anonymous)
    }

    fn asks_for_certificates(&self) -> bool {
        let mut secured = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        secured.any(|tls| tls.clients.is_some())
    }
}

fn quoted(names: &[&CallerName]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use aral_contract::Digest;

    use crate::config::serve::tests::{CALLER, serve};

    /// What is told of such a file.
    fn told(text: &str) -> Vec<String> {
        let all = serve(text).lines_for_nothing().into_iter();
        all.map(|one| format!("{}\n{}", one.message, one.hint)).collect()
    }

    #[test]
    fn a_caller_without_a_way_to_call_is_known() {
        let is_told = |one: &String| one.starts_with("nothing shows who asks for `me`: ");
        let without = |text: &str| told(text).iter().any(is_told);
        assert!(without(CALLER));
        assert!(!without(&format!("{CALLER}keys = [\"{}\"]\n", Digest::of(b"k"))));
        let listener = "[[serve.listener]]\naddress = \"127.0.0.1:0\"\n";
        assert!(without(&format!("{CALLER}{listener}")));
        assert!(!without(&format!("{CALLER}{listener}anonymous = \"me\"\n")));
        let signs = "signature = \"required\"\nsignature_keys = [\"dev.pub.pem\"]\n";
        assert!(
            without(&format!("{CALLER}{signs}")),
            "a signature alone is no way to call"
        );
        assert!(!without(&format!("{CALLER}{signs}keys = [\"{}\"]\n", Digest::of(b"k"))));
    }

    #[test]
    fn a_share_of_more_than_there_is_is_known() {
        let pairs = [
            ("connections_per_address_max", "connections_max"),
            ("requests_per_caller_max", "requests_max"),
            ("unsent_bytes_per_caller_max", "unsent_bytes_max"),
        ];
        for (share, total) in pairs {
            let limits = |own: u64| told(&format!("[serve.limits]\n{total} = 10\n{share} = {own}\n"));
            assert!(limits(10).is_empty(), "{share}");
            let told = limits(11);
            let [one] = &told[..] else { panic!("{told:?}") };
            assert!(one.contains(&format!(" {share} = 11 bounds nothing")), "{one}");
            assert!(one.contains(&format!("no more than {total} = 10")), "{one}");
        }
    }

    #[test]
    fn certificates_that_no_listener_asks_for_are_known() {
        let names = "certificates = [\"dns:a\"]\n";
        let key = format!("keys = [\"{}\"]\n", Digest::of(b"k"));
        let secured = |more: &str| {
            format!(
                "[[serve.listener]]\naddress = \"127.0.0.1:0\"\n[serve.listener.tls]\ncertificate_file = \"a\"\nkey_file = \"b\"\n{more}"
            )
        };
        let asks = secured("client_ca_file = \"c\"\n");
        for (text, beginnings) in [
            (format!("{CALLER}{names}{asks}"), &[][..]),
            (
                format!("{CALLER}{names}{}", secured("")),
                &["nothing shows", "no listener asks"],
            ),
            (format!("{CALLER}{names}{key}{}", secured("")), &["no listener asks"]),
            (format!("{CALLER}{key}{}", secured("")), &[]),
        ] {
            let told = told(&text);
            assert_eq!(told.len(), beginnings.len(), "{text}: {told:?}");
            for (one, beginning) in told.iter().zip(beginnings) {
                assert!(one.starts_with(beginning) && one.contains("`me`"), "{one}");
            }
        }
    }
}
