//! Every key of the section, each changed alone: the resolved policy changes, and so does its digest.

use super::*;

fn folder() -> AbsolutePath {
    "/etc/aral".parse().unwrap()
}

fn resolve(text: &str) -> Result<Policy, String> {
    let raw: RawPolicy = toml::from_str(text).map_err(|error| error.to_string())?;
    Policy::resolve(raw, &folder()).map_err(|error| error.to_string())
}

fn policy(text: &str) -> Policy {
    resolve(text).unwrap()
}

#[test]
fn an_empty_policy_is_closed() {
    let closed = policy("");
    assert_eq!(*closed, PolicyParts::default());
    assert!(!closed.allows_capability(&"a".parse().unwrap(), &Version::new(1, 0, 0)));
    assert!(Permission::ALL.into_iter().all(|one| !closed.allows_permission(one)));
    assert_eq!(closed.wildcards(), <[&str; 0]>::default());
}

#[test]
fn every_key_changes_its_part_and_the_digest() {
    fn check(text: &str, expected: impl Fn(&PolicyParts) -> bool) {
        let changed = policy(text);
        assert!(expected(&changed), "{text} gave {:?}", *changed);
        assert!(!expected(&PolicyParts::default()), "{text} is the default");
        assert_ne!(changed.digest(), policy("").digest(), "{text}");
    }
    check("permissions = [\"exec\"]", |parts| {
        parts.permissions.allows(|one| *one == Permission::Exec)
    });
    check("capabilities = [\"a\"]", |parts| !parts.capabilities.is_empty());
    check("network.hosts = [\"https://a.com\"]", |parts| parts.hosts.len() == 1);
    check("network.networks = [\"10.0.0.0/8\"]", |parts| parts.networks.len() == 1);
    check("network.trace_hosts = []", |parts| {
        parts.trace_hosts == Some(Vec::new())
    });
    check("network.trace_hosts = [\"https://a.com\"]", |parts| {
        parts.trace_hosts.as_ref().is_some_and(|hosts| hosts.len() == 1)
    });
    check("file.read_roots = [\"/srv\"]", |parts| parts.read_roots.len() == 1);
    check("file.write_roots = [\"data\"]", |parts| {
        parts.write_roots.iter().any(|root| root.as_str() == "/etc/aral/data")
    });
    check("file.bytes_max = 1", |parts| parts.file_bytes_max == 1);
    check("file.files_max = 2", |parts| parts.file_count_max == 2);
    check("secret.names = [\"token\"]", |parts| !parts.secrets.is_empty());
    check("secret.reveal = true", |parts| parts.secret_reveal);
    check("secret.plain_loopback = true", |parts| parts.secret_plain_loopback);
    check("memory.namespaces = [\"n\"]", |parts| !parts.namespaces.is_empty());
    check("memory.bytes_max = 3", |parts| parts.memory_bytes_max == 3);
    check("memory.records_max = 4", |parts| parts.memory_records_max == 4);
    check("exec.programs = [{ path = \"/bin/true\", args = [] }]", |parts| {
        parts.programs.len() == 1
    });
    check("limits.fuel = 5", |parts| parts.ceiling.fuel == 5);
    check("defaults.fuel = 6", |parts| parts.defaults.fuel == 6);
    check("agent.requests_per_minute = 7", |parts| {
        parts.agents.requests_per_minute == 7
    });
    check("agent.requests_per_hour = 8", |parts| {
        parts.agents.requests_per_hour == 8
    });
    check("agent.cost_per_hour_micro = 9", |parts| {
        parts.agents.cost_per_hour_micro == 9
    });
    check("agent.reasoning_depth = 1", |parts| parts.agents.reasoning_depth == 1);
    check("tier.gold.requests_per_minute = 7", |parts| {
        parts.tiers.values().any(|tier| tier.requests_per_minute == 7)
    });
    check("tier.gold.requests_per_hour = 8", |parts| {
        parts.tiers.values().any(|tier| tier.requests_per_hour == 8)
    });
    check("tier.gold.cost_per_hour_micro = 9", |parts| {
        parts.tiers.values().any(|tier| tier.cost_per_hour_micro == 9)
    });
    check("tier.gold.reasoning_depth = 1", |parts| {
        parts.tiers.values().any(|tier| tier.reasoning_depth == 1)
    });
    check("price.call_micro = 10", |parts| parts.prices.call_micro == 10);
    check("price.gigafuel_micro = 11", |parts| parts.prices.gigafuel_micro == 11);
    check("price.second_micro = 12", |parts| parts.prices.second_micro == 12);
    check("breaker.failures = 14", |parts| parts.breaker.failures == 14);
    check("breaker.open_ms = 15", |parts| parts.breaker.open_ms == 15);
    check("breaker.open_max_ms = 16000", |parts| {
        parts.breaker.open_max_ms == 16_000
    });
    check("capability.a.price_micro = 13", |parts| {
        parts.overrides.values().any(|one| one.price_micro == 13)
    });
    check("capability.a.engine = \"epoch-only\"", |parts| {
        parts.overrides.values().any(|one| one.metering == Metering::EpochOnly)
    });
    check("capability.a.limits.fuel = 7", |parts| {
        parts.overrides.values().any(|one| one.ceiling.fuel == 7)
    });
}

/// A key that is added does not compile here before it has its line above.
#[test]
fn no_key_is_forgotten_above() {
    let RawPolicy {
        permissions: _,
        capabilities: _,
        network,
        file,
        secret,
        memory,
        exec,
        limits: _,
        defaults: _,
        agent,
        breaker,
        tier: _,
        price,
        capability: _,
    } = RawPolicy::default();
    let raw::RawNetwork {
        hosts: _,
        networks: _,
        trace_hosts: _,
    } = network;
    let raw::RawFile {
        read_roots: _,
        write_roots: _,
        bytes_max: _,
        files_max: _,
    } = file;
    let raw::RawSecret {
        names: _,
        reveal: _,
        plain_loopback: _,
    } = secret;
    let raw::RawMemory {
        namespaces: _,
        bytes_max: _,
        records_max: _,
    } = memory;
    let raw::RawExec { programs: _ } = exec;
    let raw::RawAgentLimits {
        requests_per_minute: _,
        requests_per_hour: _,
        cost_per_hour_micro: _,
        reasoning_depth: _,
    } = agent;
    let raw::RawBreaker {
        failures: _,
        open_ms: _,
        open_max_ms: _,
    } = breaker;
    let raw::RawPrices {
        call_micro: _,
        gigafuel_micro: _,
        second_micro: _,
    } = price;
    let raw::RawOverride {
        engine: _,
        price_micro: _,
        limits: _,
    } = raw::RawOverride::default();
}

#[test]
fn an_override_is_for_one_capability() {
    let one = policy("limits.fuel = 10\n[capability.a]\nengine = \"epoch-only\"\nlimits.memory_bytes = 1000000000");
    let (a, b) = (&"a".parse().unwrap(), &"b".parse().unwrap());
    assert_eq!(
        (one.ceiling_of(a).fuel, one.ceiling_of(a).memory_bytes),
        (10, 1_000_000_000)
    );
    assert_eq!(one.ceiling_of(b).memory_bytes, Limits::default().memory_bytes);
    assert_eq!(
        (one.metering_of(a), one.metering_of(b)),
        (Metering::EpochOnly, Metering::Metered)
    );
}

#[test]
fn every_wildcard_is_named() {
    for (text, key) in [
        ("permissions = [\"*\"]", "permissions"),
        ("capabilities = [\"*\"]", "capabilities"),
        ("network.hosts = [\"*\"]", "network.hosts"),
        ("network.networks = [\"::/0\"]", "network.networks"),
        ("file.read_roots = [\"/\"]", "file.read_roots"),
        ("file.write_roots = [\"/\"]", "file.write_roots"),
        ("secret.names = [\"*\"]", "secret.names"),
        ("memory.namespaces = [\"*\"]", "memory.namespaces"),
    ] {
        assert_eq!(policy(text).wildcards(), [key]);
    }
}

#[test]
fn what_cannot_be_taken_is_refused_with_its_name() {
    for (text, expected) in [
        ("permission = []", "unknown field `permission`"),
        ("permissions = \"*\"", "expected a sequence"),
        ("permissions = [\"network\"]", "`network` is not a permission"),
        ("capabilities = [\"A\"]", "`A` means no capability"),
        ("network.hosts = [\"example.com\"]", "`example.com` is not a host"),
        (
            "network.networks = [\"10.0.0.0\"]",
            "`10.0.0.0` is an address and no network: write `10.0.0.0/32`",
        ),
        ("network.ports = [1]", "unknown field `ports`"),
        (
            "file.read_roots = [\"../up\"]",
            "[policy.file] read_roots names a folder that cannot be taken",
        ),
        (
            "file.write_roots = [\"/a/../b\"]",
            "[policy.file] write_roots names a folder that cannot be taken",
        ),
        ("file.bytes_max = -1", "invalid value"),
        ("file.bytes_max = 9007199254740992", "cannot be written down exactly"),
        ("secret.names = [\"A\"]", "`A` is not an identifier"),
        (
            "exec.programs = [{ path = \"git\", args = [] }]",
            "`git` is not an absolute plain path",
        ),
        ("exec.programs = [{ path = \"/bin/git\" }]", "missing field `args`"),
        (
            "exec.programs = [{ path = \"/bin/git\", args = [\"{any}\"] }]",
            "`{any}` is not an argument pattern",
        ),
        ("limits.memory_mb = 1", "unknown field `memory_mb`"),
        (
            "defaults.fuel = 2000000000",
            "[policy.defaults] fuel = 2000000000 is above the ceiling of 1000000000",
        ),
        ("breaker.failure = 1", "unknown field `failure`"),
        ("breaker.failures = -1", "invalid value"),
        ("breaker.failures = 0", "[policy.breaker] failures = 0 is less than 1"),
        ("breaker.open_ms = 0", "[policy.breaker] open_ms = 0 is less than 1"),
        (
            "breaker.open_ms = 2\nbreaker.open_max_ms = 1",
            "[policy.breaker] open_max_ms = 1 is less than 2",
        ),
        ("capability.a.engine = \"fast\"", "unknown variant `fast`"),
        ("capability.a.fuel = 1", "unknown field `fuel`"),
        ("capability.\"A b\".engine = \"metered\"", "is not an identifier"),
    ] {
        let error = resolve(text).unwrap_err();
        assert!(error.contains(expected), "{text} gave {error}");
    }
}

#[test]
fn a_number_that_is_too_large_is_told_without_names_that_the_file_does_not_have() {
    for key in ["file.bytes_max", "limits.fuel", "capability.a.limits.fuel"] {
        let error = resolve(&format!("{key} = 9007199254740992")).unwrap_err();
        assert!(error.contains("`9007199254740992`") && !error.contains('/'), "{error}");
    }
}

#[test]
fn a_tier_takes_what_it_leaves_out_from_all_agents() {
    let policy = policy("agent.requests_per_hour = 5\ntier.gold.requests_per_minute = 7\n");
    let gold = *policy.agents_of(Some(&"gold".parse().unwrap())).unwrap();
    assert_eq!((gold.requests_per_minute, gold.requests_per_hour), (7, 5));
    assert_eq!(policy.agents_of(Some(&"lead".parse().unwrap())), None);
    assert_eq!(policy.agents_of(None), Some(&policy.agents));
}

#[test]
fn a_capability_without_a_price_of_its_own_has_that_of_all() {
    let policy = policy("price.call_micro = 5\ncapability.a.price_micro = 7\ncapability.b.engine = \"metered\"\n");
    let price = |id: &str| policy.price_of(&id.parse().unwrap());
    assert_eq!((price("a"), price("b"), price("c")), (7, 5, 5));
}

#[test]
fn no_policy_lets_a_chain_be_longer_than_the_host_checks() {
    let error = resolve("tier.gold.reasoning_depth = 65").unwrap_err();
    assert_eq!(error, "[policy.tier.gold] reasoning_depth = 65 is more than 64");
    // Nor one that comes from no file.
    let depth = |reasoning_depth| AgentLimits {
        reasoning_depth,
        ..AgentLimits::default()
    };
    let with = |agents, gold| {
        Policy::new(PolicyParts {
            agents: depth(agents),
            tiers: [("gold".parse().unwrap(), depth(gold))].into(),
            ..PolicyParts::default()
        })
    };
    assert!(with(64, 64).is_ok());
    for (agents, gold, table) in [(65, 1, "[policy.agent]"), (1, 65, "[policy.tier.gold]")] {
        let error = with(agents, gold).unwrap_err();
        let place = table.to_owned();
        assert_eq!(error, PolicyError::Depth { place, depth: 65 });
    }
}

#[test]
fn no_policy_has_a_breaker_that_is_always_open_nor_one_that_comes_from_no_file() {
    let parts = PolicyParts {
        breaker: BreakerLimits {
            failures: 0,
            ..BreakerLimits::default()
        },
        ..PolicyParts::default()
    };
    let (key, value, least) = ("failures", 0, 1);
    assert_eq!(Policy::new(parts), Err(PolicyError::Breaker { key, value, least }));
}

#[test]
fn no_list_is_longer_than_a_decision_allows() {
    let texts = |item: fn(usize) -> String| move |count: usize| (0..count).map(item).collect::<Vec<_>>().join(", ");
    for (key, place, items) in [
        ("permissions", "[policy] permissions", texts(|_| "\"exec\"".to_owned())),
        (
            "capabilities",
            "[policy] capabilities",
            texts(|number| format!("\"a{number}\"")),
        ),
        (
            "network.hosts",
            "[policy.network] hosts",
            texts(|number| format!("\"https://a{number}.org\"")),
        ),
        (
            "network.networks",
            "[policy.network] networks",
            texts(|_| "\"10.0.0.0/8\"".to_owned()),
        ),
        (
            "network.trace_hosts",
            "[policy.network] trace_hosts",
            texts(|number| format!("\"https://a{number}.org\"")),
        ),
        (
            "file.read_roots",
            "[policy.file] read_roots",
            texts(|number| format!("\"/a{number}\"")),
        ),
        (
            "file.write_roots",
            "[policy.file] write_roots",
            texts(|number| format!("\"/a{number}\"")),
        ),
        (
            "secret.names",
            "[policy.secret] names",
            texts(|number| format!("\"a{number}\"")),
        ),
        (
            "memory.namespaces",
            "[policy.memory] namespaces",
            texts(|number| format!("\"a{number}\"")),
        ),
        (
            "exec.programs",
            "[policy.exec] programs",
            texts(|number| format!("{{ path = \"/a{number}\", args = [] }}")),
        ),
    ] {
        resolve(&format!("{key} = [{}]", items(POLICY_ITEMS_MAX))).unwrap();
        let error = resolve(&format!("{key} = [{}]", items(POLICY_ITEMS_MAX + 1))).unwrap_err();
        assert_eq!(error, format!("{place} has 1025 items, more than 1024"));
    }
}
