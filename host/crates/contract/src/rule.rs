//! Every rule of a security event: the word that its record in the audit log has, and what happened. Whoever records one takes the word
//! from here, so that somebody who writes alerts finds all of them in one place. The code of a failure is a rule, too.

macro_rules! rules {
    ($($variant:ident = $word:literal, $says:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $variant: &str = $word;)*

        /// What the events of each say.
        const SAYS: &[(&str, Says)] = &[$(($variant, Says::$says)),*];

        /// All of them with what happened, in the order of the documentation.
        #[cfg(test)]
        const ALL: &[(&str, &str)] = &[$(($variant, $help)),*];
    };
}

rules! {
    CONNECTIONS_ADDRESS = "connections.address", Seen, "an address opened more connections than one may have, and the next ones end at once";
    HTTP_HOST = "http.host", Seen, "a request named a host under which its listener is not known, as a page sends one whose name was pointed at this machine";
    HTTP_ORIGIN = "http.origin", Seen, "a page that is not listed tried to call";
    MCP_SESSION = "mcp.session", Seen, "a caller named a session of MCP that belongs to another caller";
    RATES_FAILURES = "rates.failures", Seen, "an address showed so many wrong credentials that none of it is looked at for a while";
    RATES_REDIS_DOWN = "rates.redis_down", Seen, "the Redis that keeps the limits of several servers does not answer any more";
    RATES_REDIS_UP = "rates.redis_up", Seen, "it answers again";
    RATES_REDIS_CREDENTIALS = "rates.redis_credentials", Done, "a configuration has another password or other authorities for Redis, and those of the start hold until a restart";
    TLS_RELOAD = "tls.reload", Seen, "files of TLS were not taken, and their listener goes on with those that it has";
    TLS_CERTIFICATE = "tls.certificate", Seen, "a listener shows a certificate that is not in its time";
    TLS_OCSP = "tls.ocsp", Seen, "a listener has an OCSP response that clients would not take, with the reason, and does not send it; or the one that it sends instead is over";
    BREAKER_OPENED = "breaker.opened", Done, "a capability keeps failing for a persona, and is not called for it for a while";
    BREAKER_CLOSED = "breaker.closed", Done, "it is called again";
    PERSONA_OVERRIDE = "persona.override", Seen, "a document tried to take the place of a persona without being a newer issue that is signed";
    DOCUMENT_LAPSED = "document.lapsed", Seen, "a document that the configuration names is not believed any more, and nothing runs under it";
    OUTBOUND_CA_FILE = "outbound.ca_file", Done, "a configuration has other authorities for the requests of the host, and those of the start hold until a restart, but for the keys of issuers";
    EGRESS_CA_FILE = "egress.ca_file", Done, "the same for the requests of guests, without exception";
    VAULT_CA_FILE = "secrets.vault.ca_file", Done, "the same for the server of secrets";
    ELASTICSEARCH_CA_FILE = "audit.elasticsearch.ca_file", Done, "the same for copies of the audit log";
    OTLP_CA_FILE = "audit.otlp.ca_file", Done, "the same for copies of the audit log";
    TELEMETRY_CA_FILE = "telemetry.otlp.ca_file", Done, "the same for traces and metrics";
    AUDIT_UNANCHORED = "audit.unanchored", Seen, "the audit log was opened, and the checkpoint that the host keeps of it was gone or of no use: nobody knows whether the log was cut back";
    MEMORY_EXPORT_BEGUN = "memory_export_begun", Done, "everything in the store begins to go out into a backup";
    MEMORY_EXPORTED = "memory_exported", Done, "that ended: how much went out, and whether whole";
    MEMORY_IMPORT_BEGUN = "memory_import_begun", Done, "a backup begins to be read into the store";
    MEMORY_IMPORTED = "memory_imported", Done, "that ended: how much came in, and whether whole";
    MEMORY_SALVAGE_BEGUN = "memory_salvage_begun", Done, "what is left of a store that lost records begins to go out into a backup";
    MEMORY_SALVAGED = "memory_salvaged", Done, "that ended: how much went out, and how much is lost";
    MEMORY_CHECK_BEGUN = "memory_check_begun", Done, "every record begins to be looked at; says what is taken out, if anything is";
    MEMORY_DAMAGED_DELETED = "memory_damaged_deleted", Done, "a check took out a record that does not open; of a namespace without a name it says so once";
    MEMORY_CHECKED = "memory_checked", Done, "the check ended: what it found and took out, and whether it saw everything";
    MEMORY_ROTATION_BEGUN = "memory_rotation_begun", Done, "everything in the store begins to be sealed under another key, or in another epoch";
    MEMORY_ROTATION_FAILED = "memory_rotation_failed", Done, "that did not end, with the reason; who has the old keys can still open what was deleted";
    MEMORY_EPOCH_MOVED = "memory_epoch_moved", Done, "the file that says since when an epoch lasts is gone, or says something later than before";
    MEMORY_KEY_UNFIT = "memory_key_unfit", Done, "a new epoch began under a master key that a store is not opened with any more, with the reason; somebody may have a copy of the key";
    DEVELOPMENT_ONLY = "development_only", Done, "something was done that only development allows, such as to take a persona that nobody signed";
}

/// What events of a rule say.
#[derive(PartialEq, Eq)]
enum Says {
    /// What was done. Each of them is recorded, however many there are: strangers cause none, and whoever does has something else recorded
    /// or done each time.
    Done,
    /// That somebody failed or was refused, or how something stands. Those that are like each other are counted.
    Seen,
}

/// Whether each event of a rule is recorded, however many there are.
pub fn is_act(rule: &str) -> bool {
    SAYS.contains(&(rule, Says::Done))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_is_documented_with_what_happened() {
        let document = include_str!("../../../../docs/audit.md");
        let (_, section) = document.split_once("\n## Rules\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let documented: Vec<(&str, &str)> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                (cells[1].trim_matches('`'), cells[3])
            })
            .collect();
        assert_eq!(documented, ALL);
    }

    #[test]
    fn the_rules_of_acts_are_those_that_are_documented_as_recorded_each_time() {
        let document = include_str!("../../../../docs/audit.md");
        let (_, list) = document.split_once("Each time are recorded:").unwrap();
        let list = list.split("\n\n").next().unwrap();
        let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let is_named = |word: &str| {
            named.iter().any(|name| match name.split_once('*') {
                Some((start, end)) => word.starts_with(start) && word.ends_with(end),
                None => *name == word,
            })
        };
        for (word, _) in ALL {
            assert_eq!(is_act(word), is_named(word), "{word}");
        }
    }

    #[test]
    fn each_word_is_one_rule() {
        let words: BTreeSet<&str> = ALL.iter().map(|(word, _)| *word).collect();
        assert_eq!(words.len(), ALL.len());
    }
}
