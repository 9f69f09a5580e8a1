//! Lines that hold, and may hold for something else than was meant. No start is refused for one.

use aral_capability::Warning;
use ipnet::IpNet;

use super::Config;

impl Config {
    /// Each with the line that says without a doubt what it means.
    pub fn odd_lines(&self) -> Vec<Warning> {
        let proxies = self.serve.iter().flat_map(|serve| serve.trusted_proxies.networks());
        let direct = self.outbound.options().no_proxy.iter();
        let networks = [
            ("[policy.network] networks", self.policy.networks.clone()),
            (
                "[outbound] no_proxy",
                direct.filter_map(|text| text.parse().ok()).collect(),
            ),
            ("[serve] trusted_proxies", proxies.copied().collect()),
        ];
        let mut all: Vec<Warning> = self.issuers_of_others();
        for (key, networks) in networks {
            all.extend(networks.into_iter().filter_map(|network| wider(key, network)));
        }
        all
    }

    /// Issuers whose tokens are for another address than the one that clients are told to ask tokens for.
    fn issuers_of_others(&self) -> Vec<Warning> {
        let serve = self.serve.iter();
        let named = serve.filter_map(|serve| Some((serve, serve.resource.as_ref()?)));
        let issuers = named.flat_map(|(serve, resource)| serve.issuers.iter().map(move |issuer| (issuer, resource)));
        let others = issuers.filter(|(issuer, resource)| {
            let of_server = [resource.to_string(), format!("{resource}/mcp")];
            !issuer.audiences.iter().any(|audience| of_server.contains(audience))
        });
        others
            .map(|(issuer, resource)| Warning {
                message: format!(
                    "[[serve.issuer]] `{}`: clients are told to ask it for tokens for `{resource}`, and `audiences` does not have that",
                    issuer.issuer.escape_debug()
                ),
                hint: format!(
                    "aral.toml, [[serve.issuer]]: audiences = [\"{resource}\", \"{resource}/mcp\"]; it may stay if the issuer writes \
                     another name into `aud` whatever it is asked for"
                ),
            })
            .collect()
    }
}

/// A network that is written with bits of one address in it.
fn wider(key: &str, network: IpNet) -> Option<Warning> {
    let whole = network.trunc();
    (whole != network).then(|| Warning {
        message: format!(
            "{key}: `{network}` is all of the network `{whole}`, and not the address before the `/` alone"
        ),
        hint: format!(
            "write \"{whole}\"; or \"{}/{}\", if one address was meant",
            network.addr(),
            network.max_prefix_len()
        ),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::load;

    /// What is told of such a file.
    fn told(text: &str) -> Vec<String> {
        let all = load(text).odd_lines().into_iter();
        all.map(|one| format!("{}\n{}", one.message, one.hint)).collect()
    }

    #[test]
    fn a_line_that_may_mean_something_else_is_told_of() {
        let issuer = |audience: &str| {
            format!(
                "[serve]\nresource = \"https://aral.example\"\n[[serve.issuer]]\nissuer = \"i\"\naudiences = [\"{audience}\"]\n\
                 algorithms = [\"RS256\"]\njwks_url = \"https://i.example/\"\n[[serve.issuer.scope]]\nscope = \"s\"\npersona = \"p.json\"\n"
            )
        };
        let policy = |network: &str| format!("[policy.network]\nnetworks = [\"{network}\"]\n");
        let direct = |network: &str| format!("[outbound]\nproxy = \"http://p:1\"\nno_proxy = [\"{network}\"]\n");
        let proxies = |network: &str| format!("[serve]\ntrusted_proxies = [\"{network}\"]\n");
        for (good, odd, parts) in [
            (
                policy("10.1.0.0/16"),
                policy("10.1.0.1/16"),
                ["[policy.network]", "\"10.1.0.1/32\""],
            ),
            (
                direct("fd00::/8"),
                direct("fd00::1/8"),
                ["[outbound] no_proxy", "\"fd00::/8\""],
            ),
            (
                direct("one.example"),
                direct("10.0.0.1/8"),
                ["[outbound] no_proxy", "\"10.0.0.0/8\""],
            ),
            (
                proxies("10.0.0.0/8"),
                proxies("10.0.0.1/8"),
                ["[serve] trusted_proxies", "\"10.0.0.0/8\""],
            ),
            (
                issuer("https://aral.example"),
                issuer("https://other.example"),
                [
                    "`audiences` does not have that",
                    "audiences = [\"https://aral.example\", ",
                ],
            ),
            (
                issuer("https://aral.example/mcp"),
                issuer("aral"),
                ["tokens for `https://aral.example`", "it may stay"],
            ),
        ] {
            assert!(told(&good).is_empty(), "{good}");
            let told = told(&odd);
            let [one] = &told[..] else { panic!("{odd}: {told:?}") };
            assert!(parts.iter().all(|part| one.contains(part)), "{one}");
        }
    }
}
