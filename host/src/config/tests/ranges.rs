//! What a number may be at least and at most is what the document says.

use super::Folder;

const VAULT: &str = "[secrets.vault]\naddress = \"https://vault.example\"\ntoken_file = \"token\"\n";

/// A file with this line, and with what its table needs besides.
fn file(table: &str, key: &str, value: u64) -> String {
    let line = format!("{key} = {value}\n");
    let rest = match (table, key) {
        ("[memory]", _) => format!("[memory]\nmaster_key = {{ file = \"k\" }}\n{line}"),
        ("[memory.epoch]", _) => format!(
            "[memory.master_key]\nfile = \"k\"\n[memory.epoch]\ntransit = {{ mount = \"t\", prefix = \"p\" }}\n{line}{VAULT}"
        ),
        ("[secrets.vault]", _) => format!("{VAULT}{line}"),
        ("[audit.elasticsearch]" | "[audit.otlp]" | "[telemetry.otlp]", _) => {
            format!("{table}\naddress = \"https://copies.example\"\n{line}")
        }
        // All segments together may not be less than one.
        ("[audit]", "segment_bytes_max") => format!("[audit]\nretain_bytes_max = {}\n{line}", 1_u64 << 50),
        ("[serve.rates.redis]", _) => format!("{table}\nurl = \"rediss://limits.example\"\n{line}"),
        ("[[serve.issuer]]", _) => format!(
            "[serve]\nresource = \"https://aral.example\"\n[[serve.issuer]]\nissuer = \"https://issuer.example\"\n\
             audiences = [\"https://aral.example\"]\nalgorithms = [\"RS256\"]\n\
             jwks_url = \"https://issuer.example/jwks\"\n{line}\
             [[serve.issuer.scope]]\nscope = \"aral:agent\"\npersona = \"p.json\"\n"
        ),
        (table, _) => format!("{table}\n{line}"),
    };
    format!("state_dir = \"state\"\n{rest}")
}

#[test]
fn every_number_may_be_what_the_document_says_and_no_more() {
    let document = include_str!("../../../../docs/defaults.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `[")).collect();
    for row in &rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let (table, key) = cells[1].trim_matches('`').rsplit_once(' ').unwrap();
        let taken = |value: u64| Folder::with(&file(table, key, value)).load();
        let refused = |value: u64| {
            let failure = taken(value).unwrap_err();
            assert!(failure.message.contains(key), "{row}: {value}: {failure}");
        };
        // Where another key says how much it is, a test of its table changes both.
        if let Ok(least) = cells[2].parse::<u64>() {
            assert!(taken(least).is_ok(), "{row}: {least}: {:?}", taken(least).err());
            if let Some(less) = least.checked_sub(1) {
                refused(less);
            }
        }
        if let Ok(most) = cells[3].parse::<u64>() {
            assert!(taken(most).is_ok(), "{row}: {most}: {:?}", taken(most).err());
            refused(most + 1);
        }
    }
    assert!(rows.len() > 60, "the document has {} numbers", rows.len());
}
