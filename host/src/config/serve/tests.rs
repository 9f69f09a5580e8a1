//! Every key of `[[serve.issuer]]` and of signatures, changed alone; and what is refused, with the line to write.

use aral_contract::{Code, Failure};
use aral_protocol::TokenAlgorithm;

use super::*;
use crate::config::Config;
use crate::config::tests::Folder;

/// The keys of RFC 8037 appendix A.2.
const JWKS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn folder(text: &str) -> Folder {
    let folder = Folder::with(text);
    folder.write("jwks.json", JWKS.as_bytes(), 0o644);
    folder
}

pub(super) fn serve(text: &str) -> ServeConfig {
    folder(text).load().unwrap().serve.unwrap()
}

fn refused(text: &str) -> Failure {
    let failure = folder(text).load().unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
    failure
}

const ISSUER: &str = r#"
    [serve]
    resource = "https://aral.example"
    [[serve.issuer]]
    issuer = "https://issuer.example"
    audiences = ["https://aral.example"]
    algorithms = ["RS256"]
    jwks_url = "https://issuer.example/jwks"
"#;
const SCOPE: &str = "[[serve.issuer.scope]]\nscope = \"aral:agent\"\npersona = \"p.json\"\n";

/// An issuer with more lines.
fn with(lines: &str) -> IssuerConfig {
    let config = serve(&format!("{ISSUER}{lines}\n{SCOPE}"));
    config.issuers.into_iter().next().unwrap()
}

#[test]
fn an_issuer_is_what_its_keys_say() {
    let remote = |config: IssuerConfig| match config.keys {
        JwksConfig::Url(remote) => remote,
        JwksConfig::File(_) => panic!("a file"),
    };
    let config = with("");
    assert_eq!(config.issuer, "https://issuer.example");
    assert_eq!(config.audiences, ["https://aral.example"]);
    assert_eq!(config.algorithms, [TokenAlgorithm::RS256]);
    assert_eq!(config.types, ["at+jwt"]);
    assert_eq!((config.leeway.as_secs(), config.lifetime_max.as_secs()), (30, 3600));
    assert_eq!(config.scopes[0].scope, "aral:agent");
    assert!(config.scopes[0].persona.is_absolute() && config.scopes[0].persona.ends_with("p.json"));
    let keys = remote(config);
    assert_eq!(keys.server.url().as_str(), "https://issuer.example/jwks");
    let seconds = |keys: &RemoteJwksConfig| (keys.ttl.as_secs(), keys.stale.as_secs(), keys.refetch.as_secs());
    assert_eq!(seconds(&keys), (300, 3600, 30));
    assert_eq!(seconds(&remote(with("jwks_ttl_s = 7"))), (7, 3600, 7));
    assert_eq!(seconds(&remote(with("jwks_ttl_s = 7200"))), (7200, 7200, 30));
    assert_eq!(seconds(&remote(with("jwks_stale_s = 301"))), (300, 301, 30));
    assert_eq!(seconds(&remote(with("jwks_refetch_s = 2"))), (300, 3600, 2));
    assert_eq!(with("leeway_s = 300").leeway.as_secs(), 300);
    assert_eq!(with("lifetime_s_max = 60").lifetime_max.as_secs(), 60);
    assert_eq!(with("types = [\"JWT\"]").types, ["JWT"]);
    let file = ISSUER
        .replace(
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"jwks.json\"",
        )
        .replace("RS256", "EdDSA");
    let config = serve(&format!("{file}{SCOPE}"));
    assert!(matches!(config.issuers[0].keys, JwksConfig::File(_)));
    assert_eq!(config.resource.unwrap().to_string(), "https://aral.example");
}

#[test]
fn an_issuer_that_cannot_be_is_refused_with_the_line_to_write() {
    let change = |from: &str, to: &str| {
        let text = format!("{ISSUER}{SCOPE}");
        let changed = text.replace(from, to);
        assert_ne!(text, changed, "{from}");
        refused(&changed)
    };
    for (from, to, message, hint) in [
        ("[\"https://aral.example\"]", "[]", "has no audiences", "audiences = ["),
        ("[\"RS256\"]", "[]", "has no algorithms", "algorithms = [\"RS256\"]"),
        ("[\"RS256\"]", "[\"HS256\"]", "unknown variant `HS256`", ""),
        ("[\"RS256\"]", "[\"none\"]", "unknown variant `none`", ""),
        (SCOPE, "", "has no scope", "[[serve.issuer.scope]]: scope = "),
        (
            SCOPE,
            &format!("types = []\n{SCOPE}"),
            "has no types",
            "types = [\"at+jwt\"]",
        ),
        ("aral:agent", "aral agent", "`aral agent` is no scope", "visible ASCII"),
        (
            "https://issuer.example/jwks",
            "http://issuer.example/jwks",
            "plain http",
            "jwks_url = ",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "",
            "one of jwks_url and jwks_file",
            "jwks_url = ",
        ),
        (
            "jwks_url",
            "jwks_file = \"jwks.json\"\njwks_url",
            "one of jwks_url and jwks_file",
            "jwks_url = ",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"jwks.json\"\njwks_ttl_s = 300",
            "has jwks_ttl_s, and the keys in its jwks_file are not fetched",
            "leave out `jwks_ttl_s`",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"jwks.json\"\njwks_stale_s = 3600",
            "has jwks_stale_s, and",
            "leave out `jwks_stale_s`",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"jwks.json\"\njwks_refetch_s = 30",
            "has jwks_refetch_s, and",
            "leave out `jwks_refetch_s`",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"none.json\"",
            "[[serve.issuer]] `https://issuer.example`: jwks_file: cannot open `",
            "name a file that is there",
        ),
        (
            "jwks_url = \"https://issuer.example/jwks\"",
            "jwks_file = \"dev.pub.pem\"",
            "it is no JSON Web Key Set",
            "jwks_file = ",
        ),
        (
            SCOPE,
            &format!("leeway_s = 301\n{SCOPE}"),
            "leeway_s = 301 is not between 0 and 300",
            "",
        ),
        (
            SCOPE,
            &format!("jwks_ttl_s = 0\n{SCOPE}"),
            "jwks_ttl_s = 0 is not between 1 and 86400",
            "",
        ),
        (
            SCOPE,
            &format!("jwks_stale_s = 299\n{SCOPE}"),
            "jwks_stale_s = 299 is not between 300",
            "",
        ),
        (
            SCOPE,
            &format!("jwks_refetch_s = 0\n{SCOPE}"),
            "jwks_refetch_s = 0 is not between 1",
            "",
        ),
        (
            SCOPE,
            &format!("jwks_ttl_s = 20\njwks_refetch_s = 21\n{SCOPE}"),
            "jwks_refetch_s = 21 is not between 1 and 20",
            "",
        ),
        (
            SCOPE,
            &format!("lifetime_s_max = 0\n{SCOPE}"),
            "lifetime_s_max = 0 is not between 1",
            "",
        ),
        (
            "https://aral.example\"\n",
            "https://aral.example/mcp\"\n",
            "is no resource",
            "",
        ),
        (
            SCOPE,
            &format!("client_secret = 1\n{SCOPE}"),
            "unknown field `client_secret`",
            "",
        ),
    ] {
        let failure = change(from, to);
        assert!(failure.message.contains(message), "{failure}");
        assert!(
            failure.hint.clone().unwrap_or_default().contains(hint),
            "{failure}: {:?}",
            failure.hint
        );
    }
    let twice = ISSUER.split_once("[[serve.issuer]]").unwrap().1;
    let failure = refused(&format!("{ISSUER}{SCOPE}[[serve.issuer]]{twice}{SCOPE}"));
    assert!(failure.message.contains("is there twice"), "{failure}");
}

/// The public key of RFC 7517 appendix A.1.
const P256: &str = r#""kty":"EC","crv":"P-256","kid":"k1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"#;
const P256_Y: &str = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM";

#[test]
fn a_file_of_keys_with_which_no_token_can_be_good_is_refused() {
    let load = |key: &str, algorithms: &str| {
        let text = format!("{ISSUER}{SCOPE}")
            .replace(
                "jwks_url = \"https://issuer.example/jwks\"",
                "jwks_file = \"jwks.json\"",
            )
            .replace("[\"RS256\"]", algorithms);
        let folder = Folder::with(&text);
        folder.write("jwks.json", format!("{{\"keys\":[{{{key}}}]}}").as_bytes(), 0o644);
        folder.load()
    };
    let good = format!("{P256}\"{P256_Y}\"");
    assert!(load(&good, "[\"RS256\", \"ES256\"]").is_ok());
    let beside = format!("{P256}\"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE\"");
    for (key, algorithms, message, hint) in [
        (
            &good,
            "[\"RS256\"]",
            "has keys for ES256, and `algorithms` has none of these",
            "algorithms = [\"ES256\"]",
        ),
        (
            &format!("{good},\"alg\":\"ECDH-ES\""),
            "[\"ES256\"]",
            "has keys for no algorithm of tokens",
            "jwks_file = ",
        ),
        (
            &beside,
            "[\"ES256\"]",
            "it holds no public key that verifies signatures",
            "jwks_file = ",
        ),
        (
            &format!("{good},\"d\":\"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\""),
            "[\"ES256\"]",
            "its key `k1` is a private one",
            "leave the private members out",
        ),
    ] {
        let failure = load(key, algorithms).unwrap_err();
        assert!(failure.message.contains(message), "{failure}");
        assert!(!failure.message.contains("870MB6"), "{failure}");
        assert!(
            failure.hint.clone().unwrap_or_default().contains(hint),
            "{failure}: {:?}",
            failure.hint
        );
    }
}

pub(super) const CALLER: &str = "[[serve.caller]]\nname = \"me\"\npersona = \"p.json\"\n";

#[test]
fn a_caller_signs_or_not_with_these_keys() {
    let rule = |lines: &str| serve(&format!("{CALLER}{lines}")).callers[0].signature.clone();
    assert_eq!(rule(""), None);
    let keys = "signature_keys = [\"dev.pub.pem\"]";
    let required = rule(&format!("signature = \"required\"\n{keys}")).unwrap();
    assert!(required.required && required.keys.len() == 1);
    assert!(!rule(&format!("signature = \"optional\"\n{keys}")).unwrap().required);
    for (lines, message, hint) in [
        (keys, "nothing says whether it signs", "signature = \"required\""),
        (
            "signature = \"required\"",
            "has no signature_keys",
            "signature_keys = [",
        ),
        ("signature = \"never\"", "unknown variant `never`", ""),
        (
            "signature = \"required\"\nsignature_keys = [\"none.pem\"]",
            "[[serve.caller]] `me`: signature_keys: cannot open `",
            "aral keygen",
        ),
        (
            "signature = \"required\"\nsignature_keys = [\"jwks.json\"]",
            "the caller `me`: signature_keys",
            "aral keygen",
        ),
    ] {
        let failure = refused(&format!("{CALLER}{lines}"));
        assert!(failure.message.contains(message), "{failure}");
        assert!(
            failure.hint.clone().unwrap_or_default().contains(hint),
            "{failure}: {:?}",
            failure.hint
        );
    }
}

#[test]
fn a_caller_says_whose_word_the_names_of_its_certificates_are() {
    let files = |lines: &str| serve(&format!("{CALLER}{lines}")).callers[0].client_ca_files.clone();
    let names = "certificates = [\"dns:a\"]\n";
    assert!(files(names).is_empty());
    let two = files(&format!("{names}client_ca_files = [\"a.pem\", \"b.pem\"]"));
    assert!(two.iter().all(|file| file.is_absolute()), "{two:?}");
    assert!(
        two.len() == 2 && two[0].ends_with("a.pem") && two[1].ends_with("b.pem"),
        "{two:?}"
    );
    let failure = refused(&format!("{CALLER}client_ca_files = [\"a.pem\"]"));
    assert!(
        failure
            .message
            .contains("the caller `me` has client_ca_files, and no certificates"),
        "{failure}"
    );
    assert!(
        failure.hint.clone().unwrap_or_default().contains("certificates = ["),
        "{failure}"
    );
}

#[test]
fn a_key_that_stands_where_its_digest_belongs_is_not_shown() {
    let digest = Digest::of(b"aral_5ec2e7");
    let admin = "[serve.admin]\n";
    for (table, of) in [(CALLER, "[[serve.caller]] `me`"), (admin, "[serve.admin]")] {
        for keys in [
            "[\"aral_5ec2e7\"]".to_owned(),
            "\"aral_5ec2e7\"".to_owned(),
            "[[\"aral_5ec2e7\"]]".to_owned(),
            "{ aral_5ec2e7 = 1 }".to_owned(),
            format!("[\"{digest}\", \"aral_5ec2e7\"]"),
            format!("[\"{}\"]", digest.to_string().to_uppercase()),
        ] {
            let failure = refused(&format!("{table}keys = {keys}"));
            let hint = failure.hint.unwrap_or_default();
            assert!(
                failure.message.starts_with(&format!("{of}: `keys`")),
                "{}",
                failure.message
            );
            assert!(hint.contains("printf %s \"$key\" | sha256sum"), "{hint}");
            assert!(!failure.message.contains("5ec2e7"), "{}", failure.message);
        }
    }
    let other = Digest::of(b"aral_07e2");
    let config = serve(&format!("{CALLER}keys = [\"{digest}\"]\n{admin}keys = [\"{other}\"]"));
    assert_eq!(
        (&config.callers[0].keys[..], &config.admin.keys[..]),
        (&[digest][..], &[other][..])
    );
}

#[test]
fn no_key_of_a_caller_is_one_of_an_operator() {
    let [one, two, three, four] = ["aral_1", "aral_2", "aral_3", "aral_4"].map(|key| Digest::of(key.as_bytes()));
    let both = |theirs: Digest| {
        format!("{CALLER}keys = [\"{one}\", \"{theirs}\"]\n[serve.admin]\nkeys = [\"{three}\", \"{two}\"]")
    };
    assert_eq!(serve(&both(four)).admin.keys, [three, two]);
    let failure = refused(&both(two));
    assert!(
        failure
            .message
            .contains("the caller `me` has a key that is one of the `keys` of [serve.admin]"),
        "{failure}"
    );
    assert!(!failure.message.contains(&two.to_string()), "{failure}");
    assert!(failure.hint.unwrap_or_default().contains("make another key"));
}

#[test]
fn what_the_hint_for_a_key_prints_is_what_keys_takes() {
    let hint = refused(&format!("{CALLER}keys = [\"aral_5ec2e7\"]")).hint.unwrap();
    let command = hint.split('`').find(|part| part.contains("sha256sum")).unwrap();
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", command]).env("key", "aral_5ec2e7").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let config = serve(&format!("{CALLER}keys = [\"{}\"]", printed.trim_end_matches('\n')));
    assert_eq!(config.callers[0].keys, [Digest::of(b"aral_5ec2e7")]);
}

#[test]
fn the_keys_of_issuers_are_fetched_as_outbound_says() {
    assert!(Config::closed().unwrap().serve.is_none());
    let config = folder(&format!(
        "[outbound]\nproxy = \"http://proxy.example:3128\"\n{ISSUER}{SCOPE}"
    ));
    let shown = format!("{:?}", config.load().unwrap().serve.unwrap().outbound);
    assert!(shown.contains("proxy.example"), "{shown}");
}

#[test]
fn trusted_proxies_are_some_networks_and_not_all() {
    let proxies = |network: &str| format!("[serve]\ntrusted_proxies = [\"10.0.0.0/8\", \"{network}\"]\n");
    assert_ne!(
        serve(&proxies("fd00::/8")).trusted_proxies,
        serve(&proxies("fd00::/9")).trusted_proxies
    );
    for (network, message, line) in [
        (
            "0.0.0.0/0",
            "with `0.0.0.0/0` everybody is a trusted proxy",
            "[\"10.0.0.0/8\"]",
        ),
        ("::/0", "with `::/0` everybody is a trusted proxy", "[\"10.0.0.0/8\"]"),
        (
            "::ffff:192.0.2.0/120",
            "`::ffff:192.0.2.0/120` is a network of IPv4 in the form of IPv6",
            "[\"192.0.2.0/24\"]",
        ),
    ] {
        let failure = refused(&proxies(network));
        assert!(failure.message.contains(message), "{failure}");
        let line = format!("trusted_proxies = {line}");
        assert!(failure.message.contains(&line), "{failure}");
    }
}

#[test]
fn the_field_that_proxies_write_is_one_of_two_or_not_said() {
    let proxies = |line: &str| format!("[serve]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{line}\n");
    let unsaid = serve(&proxies("")).trusted_proxies;
    for (word, field) in [
        ("forwarded", ForwardedField::Forwarded),
        ("x-forwarded-for", ForwardedField::XForwardedFor),
    ] {
        let said = serve(&proxies(&format!("forwarded = \"{word}\""))).trusted_proxies;
        assert_ne!(said, unsaid, "{word}");
        assert_eq!(said, unsaid.clone().writing(Some(field)), "{word}");
    }
    let failure = refused(&proxies("forwarded = \"x-real-ip\""));
    assert!(failure.message.contains("unknown variant `x-real-ip`"), "{failure}");
    for nobody in ["", "trusted_proxies = []\n"] {
        let failure = refused(&format!("[serve]\n{nobody}forwarded = \"forwarded\"\n"));
        let message = "[serve] has forwarded, and no trusted_proxies";
        assert!(failure.message.contains(message), "{failure}");
        let hint = failure.hint.unwrap();
        assert!(
            hint.contains("[serve]: trusted_proxies = [\"10.0.0.0/8\"], or leave out"),
            "{hint}"
        );
    }
}

#[test]
fn a_port_of_the_management_is_of_the_loopback_and_has_a_key() {
    let key = format!("keys = [\"{}\"]", Digest::of(b"aral_1"));
    let admin = |lines: &str| format!("[serve.admin]\n{lines}\n");
    for (lines, message, line) in [
        (
            format!("address = \"0.0.0.0:9191\"\n{key}"),
            "`0.0.0.0:9191` is not of the loopback",
            "[serve.admin]: address = \"127.0.0.1:9191\"",
        ),
        (
            "address = \"127.0.0.1:9191\"".to_owned(),
            "`127.0.0.1:9191` needs a key",
            "[serve.admin]: keys = ",
        ),
    ] {
        let failure = refused(&admin(&lines));
        assert!(failure.message.contains(message), "{failure}");
        assert!(failure.hint.unwrap_or_default().contains(line), "{message}");
    }
    let both = format!("address = \"127.0.0.1:9191\"\n{key}");
    for good in [both.as_str(), key.as_str(), "socket = \"a\""] {
        serve(&admin(good));
    }
}

#[test]
fn no_address_is_listened_on_twice() {
    let listener = |address: &str| format!("[[serve.listener]]\naddress = \"{address}\"\n");
    let key = Digest::of(b"aral_1");
    let admin = |address: &str| format!("[serve.admin]\naddress = \"{address}\"\nkeys = [\"{key}\"]\n");
    let local = "127.0.0.1:8080";
    for twice in [
        format!("{}{}", listener(local), listener(local)),
        format!("{}{}", listener(local), admin(local)),
        format!("{}{}", listener("0.0.0.0:8080"), admin(local)),
        format!("{}{}", listener("[::]:8080"), listener(local)),
        format!("{}{}", listener("[::ffff:127.0.0.1]:8080"), admin(local)),
    ] {
        let failure = refused(&twice);
        assert!(
            failure.message.contains("`127.0.0.1:8080` is listened on twice"),
            "{failure}"
        );
        let hint = failure.hint.unwrap_or_default();
        assert!(
            hint.contains("a port of its own") && hint.contains("`[::]` alone takes the addresses of IPv4, too"),
            "{hint}"
        );
    }
    for (one, two) in [
        ("0.0.0.0:1", "[::]:1"),
        ("[::]:1", "[::1]:1"),
        ("[2001:db8::1]:1", "[::]:1"),
        ("[::ffff:0.0.0.0]:1", "127.0.0.1:1"),
    ] {
        let (one, two) = (one.parse().unwrap(), two.parse().unwrap());
        assert!(overlap(one, two) && overlap(two, one), "{one} {two}");
    }
    for good in [
        format!("{}{}", listener("0.0.0.0:8080"), listener("[::1]:8080")),
        format!("{}{}", listener("0.0.0.0:8080"), admin("127.0.0.1:8081")),
        format!("{}{}", listener("[fe80::1%1]:8080"), listener("[fe80::1%2]:8080")),
        format!("{}{}", listener("192.0.2.1:8080"), listener("192.0.2.2:8080")),
        format!("{}{}", listener(local), listener("127.0.0.1:8081")),
        format!("{}{}", listener(local), listener("[::1]:8080")),
        format!("{}{}", listener("127.0.0.1:0"), admin("127.0.0.1:0")),
    ] {
        assert!(!serve(&good).listeners.is_empty());
    }
}

#[test]
fn a_rate_has_a_highest_value_and_that_of_cost_is_higher() {
    let rates = |text: &str| format!("[serve.rates]\n{text}");
    let taken = serve(&rates(
        "persona = { per_second = 1000000 }\ncost = { per_second = 1000000000, burst = 4000000000 }",
    ));
    assert_eq!(taken.rates.persona.to_string(), "1000000 a second, 1000000 at once");
    assert_eq!(taken.rates.cost.to_string(), "1000000000 a second, 4000000000 at once");
    for (key, most) in [("persona", 1_000_000_u64), ("cost", 1_000_000_000)] {
        let failure = refused(&rates(&format!("{key} = {{ per_second = {} }}", most + 1)));
        let words = format!(
            "[serve.rates] {key}: {} in a second or a minute is not between 1 and {most}",
            most + 1
        );
        assert!(failure.message.contains(&words), "{failure}");
    }
    let failure = refused("[serve.rates.tiers]\ngold = { per_second = 1000001 }");
    assert!(
        failure.message.contains("[serve.rates.tiers] gold: 1000001"),
        "{failure}"
    );
}
