//! The page for whoever runs a server, and the unit that it is about: what they name is there, and what the unit says of times and limits
//! is what the program needs.

use crate::support::desk::Desk;

const PAGE: &str = include_str!("../../docs/operating.md");
const UNIT: &str = include_str!("../../packaging/aral.service");
const AUDIT: &str = include_str!("../../docs/audit.md");
const CLI: &str = include_str!("../../docs/cli.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const DEFAULTS: &str = include_str!("../../docs/defaults.md");
const ERRORS: &str = include_str!("../../docs/errors.md");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// What is shown between fences, or all that is not.
fn parts(shown: bool) -> impl Iterator<Item = &'static str> {
    let parts = PAGE.split("\n```").enumerate();
    parts
        .filter(move |(number, _)| (number % 2 == 1) == shown)
        .map(|(_, part)| part)
}

/// What stands in backticks.
fn named() -> impl Iterator<Item = &'static str> {
    parts(false).flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// Whether a table of this page has a row of this name.
fn has_row(page: &str, name: &str) -> bool {
    page.contains(&format!("\n| `{name}` |"))
}

/// Whether a page has this word, and not as a part of another one.
fn has_word(page: &str, word: &str) -> bool {
    let is_in_word = |one: char| one.is_alphanumeric() || one == '_';
    page.match_indices(word).any(|(at, _)| {
        let (before, rest) = page.split_at(at);
        !before.ends_with(is_in_word) && !rest[word.len()..].starts_with(is_in_word)
    })
}

/// What a directive of the unit says.
fn directive(name: &str) -> Option<&'static str> {
    let mut lines = UNIT.lines().filter_map(|line| line.split_once('='));
    lines.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The number of a directive.
fn number(name: &str) -> u64 {
    let value = directive(name).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("the unit has no number `{name}`"))
}

/// The documented default of a limit of the whole host.
fn default(key: &str) -> u64 {
    let (_, rest) = DEFAULTS.split_once(&format!("| {key} | ")).expect("a row");
    let number = rest.split(' ').next().and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("`{key}` has no default"))
}

#[test]
fn metrics_rules_keys_and_files_of_the_page_for_operators_are_there() {
    let is_word = |name: &&str| {
        name.contains(['_', '.']) && name.chars().all(|one| one.is_ascii_lowercase() || "_.".contains(one))
    };
    let mut metrics = 0;
    for name in named().filter(is_word) {
        let is_metric = name.starts_with("aral_") || name.starts_with("process_");
        metrics += usize::from(is_metric);
        let is_there = if is_metric {
            has_row(METRICS, name)
        } else if name.contains('.') {
            has_row(AUDIT, name) || has_row(ERRORS, name) || has_word(CONFIGURATION, name)
        } else {
            has_row(AUDIT, name) || has_word(CONFIGURATION, name) || DEFAULTS.contains(&format!("`{name}`"))
        };
        assert!(is_there, "docs/operating.md names `{name}`, which no other page knows");
    }
    assert!(metrics > 10, "only {metrics} metrics");
}

#[test]
fn the_sections_that_the_page_for_operators_names_are_there() {
    let mut found = 0;
    for name in named() {
        let Some((section, key)) = name.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            continue;
        };
        found += 1;
        let is_there = CONFIGURATION
            .lines()
            .any(|line| line.starts_with(&format!("[{section}]")) || line.starts_with(&format!("[[{section}]]")));
        assert!(is_there, "there is no section `{name}`");
        let key = key.trim();
        assert!(
            key.is_empty() || has_word(CONFIGURATION, key),
            "there is no key `{name}`"
        );
    }
    assert!(found > 10, "only {found} sections");
}

#[test]
fn the_commands_of_the_page_for_operators_are_what_the_program_takes() {
    let desk = Desk::new();
    let typed = parts(true).flat_map(str::lines).filter_map(|line| {
        let line = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ "))?;
        line.strip_prefix("sudo -u aral ").unwrap_or(line).strip_prefix("aral ")
    });
    let mut found = 0;
    for command in typed.chain(named().filter_map(|name| name.strip_prefix("aral "))) {
        found += 1;
        let command = command.replace("--config /etc/aral/aral.toml ", "");
        let is_verb =
            |word: &&str| word.chars().all(|one| one.is_ascii_lowercase() || one == '-') && !word.starts_with('-');
        let verbs = command.split(' ').take_while(is_verb).chain(["--help"]);
        let help = desk.aral(&verbs.collect::<Vec<_>>());
        help.assert(&command, 0, &[]);
        for option in command.split(' ').filter(|word| word.starts_with("--")) {
            assert!(has_word(&help.stdout, option), "`aral {command}` has no `{option}`");
        }
    }
    assert!(found > 20, "only {found} commands");
}

#[test]
fn the_unit_has_what_the_page_says_of_it() {
    let mut found = 0;
    for name in named() {
        let Some((name, _)) = name.split_once('=') else {
            continue;
        };
        // Words of sd_notify have no small letters.
        let is_directive = name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.contains(|one: char| one.is_ascii_lowercase())
            && name.chars().all(char::is_alphanumeric);
        if is_directive {
            found += 1;
            assert!(
                UNIT.contains(&format!("{name}=")),
                "packaging/aral.service does not say `{name}=`"
            );
        }
    }
    assert!(found > 10, "only {found} directives");
    let folder = directive("StateDirectory").expect("a folder");
    assert!(PAGE.contains(&format!("\nstate_dir = \"/var/lib/{folder}\"\n")));
}

#[test]
fn a_look_of_doctor_runs_as_the_unit_runs_the_server() {
    let mut lines = parts(true).flat_map(str::lines);
    let line = lines
        .find_map(|line| line.strip_prefix("# systemd-run "))
        .expect("a line");
    assert!(line.ends_with(" /usr/local/bin/aral --config /etc/aral/aral.toml doctor"));
    let properties: Vec<&str> = line
        .split(" -p ")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    assert!(properties.contains(&"User=aral") && properties.contains(&"ProtectSystem=strict"));
    for property in properties {
        // What the unit has as a folder of state, which systemd would give another mode here.
        let is_state = property == "ReadWritePaths=/var/lib/aral";
        assert!(is_state || UNIT.contains(property), "the unit has no `{property}`");
    }
}

/// As the page says what comes of them.
#[test]
fn the_unit_takes_nothing_away_that_the_server_needs() {
    for name in ["MemoryDenyWriteExecute", "ProcSubset"] {
        assert_eq!(directive(name), None, "with {name}= a server does not work");
    }
    assert_eq!(directive("StateDirectoryMode"), Some("0700"));
    assert!(UNIT.contains("\n#RuntimeDirectory=aral\n#RuntimeDirectoryMode=0700\n"));
    // Where the page that names a socket has it.
    assert!(CONFIGURATION.contains("socket = \"/run/aral/admin.sock\""));
    assert_eq!(directive("Type"), Some("notify"));
    // Else a program of a guest gets the signal that tells the server to end.
    assert_eq!(directive("KillMode"), Some("mixed"));
    assert!(number("LimitNOFILE") >= default("[process] `open_files_max`"));
    let [delay, drain] = ["drain_delay_ms", "drain_ms"].map(|key| default(&format!("[serve.limits] `{key}`")));
    let stop = delay + 2 * drain + 30_000;
    assert!(number("TimeoutStopSec") * 1000 > stop, "a stop may take {stop} ms");
    // Nothing else stays as it is until somebody changes a file: a port that is taken (8), a clock that is behind (7).
    assert_eq!(directive("RestartPreventExitStatus"), Some("2"));
    assert!(CLI.contains("\n| 2 | an option, an argument or a configuration file is wrong"));
    let starts = |name, verb: &str| directive(name).is_some_and(|command| command.ends_with(verb));
    assert!(starts("ExecStart", "/etc/aral/aral.toml serve") && starts("ExecReload", "/etc/aral/aral.toml reload"));
}
