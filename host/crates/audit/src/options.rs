//! What the operator decides about the log, with defaults.

use std::path::PathBuf;
use std::time::Duration;

use aral_contract::document::TrustStore;
use serde::{Deserialize, Serialize};

/// Records after which a checkpoint is signed.
pub const CHECKPOINT_RECORDS: u64 = 1_000;
/// Time after which a checkpoint is signed if there are new records, and with [`Durability::Async`] the longest time that
/// a record waits for the disk.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// What it means that a record is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on stable storage. Callers wait for the disk, many at once.
    #[default]
    Sync,
    /// It has its place in the log. A power cut loses what was recorded in the last [`CHECKPOINT_INTERVAL`], a killed
    /// process what was recorded in the last few milliseconds.
    Async,
}

/// Where and how a log is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The folder; made with mode 0700 if it is not there. Nobody else may have access to it.
    pub directory: PathBuf,
    /// Where the newest checkpoint is kept besides, outside of the folder; none: nowhere. A log that does not go on from there
    /// is not opened.
    pub head_file: Option<PathBuf>,
    /// Whose checkpoints count besides those of the key that the log is opened with: keys that signed for it before. A segment
    /// whose end none of them signed is not removed.
    pub trust: TrustStore,
    /// What it means that a record is kept.
    pub durability: Durability,
    /// Size of a segment after which the next one begins, in bytes.
    pub segment_bytes_max: u64,
    /// Age of a segment after which the next one begins.
    pub segment_age_max: Duration,
    /// Size of all segments together; the oldest go first. The current one always stays.
    pub retain_bytes_max: u64,
    /// Age of the newest record of a segment after which it goes; none: they do not go by age.
    pub retain_age_max: Option<Duration>,
    /// Records that wait to be written. Who comes after waits for room.
    pub queue_records_max: usize,
    /// Disk space that is kept for the records of what is already under way when the disk is full, in bytes.
    pub reserve_bytes: u64,
    /// Failures of one kind from one source that are recorded one by one in each [`LogOptions::repeat_window`]; the rest
    /// are counted.
    pub repeats_max: u32,
    /// How long failures are counted together.
    pub repeat_window: Duration,
}

impl LogOptions {
    /// A log in this folder, with the defaults: synchronous, segments of 64 MiB or a day, 8 GiB of them of any age, 8,192
    /// records waiting, 16 MiB of reserve, five failures a minute from one source.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            head_file: None,
            trust: TrustStore::default(),
            durability: Durability::default(),
            segment_bytes_max: 64 << 20,
            segment_age_max: Duration::from_hours(24),
            retain_bytes_max: 8 << 30,
            retain_age_max: None,
            queue_records_max: 8192,
            reserve_bytes: 16 << 20,
            repeats_max: 5,
            repeat_window: Duration::from_mins(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_documented_with_its_value() {
        let document = include_str!("../../../../docs/defaults.md");
        for (name, value) in [
            ("TEXT_BYTES_MAX", crate::text::TEXT_BYTES_MAX as u64),
            ("LINE_BYTES_MAX", crate::line::LINE_BYTES_MAX as u64),
            ("SEGMENTS_MAX", crate::segment::SEGMENTS_MAX as u64),
            ("CHECKPOINT_RECORDS", CHECKPOINT_RECORDS),
            ("CUT_KEPT_BYTES_MAX", crate::recover::CUT_KEPT_BYTES_MAX),
            ("UNSYNCED_BYTES_MAX", crate::output::UNSYNCED_BYTES_MAX as u64),
            ("PROOF_NODES_MAX", crate::merkle::PROOF_NODES_MAX as u64),
            ("RECEIPT_BYTES_MAX", crate::receipt::RECEIPT_BYTES_MAX as u64),
            ("BATCH_RECORDS_MAX", crate::sink::BATCH_RECORDS_MAX as u64),
            ("REFUSED_IN_A_ROW_MAX", crate::sink::REFUSED_IN_A_ROW_MAX as u64),
            ("REFUSED_AGAIN_MAX", crate::sink::REFUSED_AGAIN_MAX as u64),
            ("BATCH_BYTES_MAX", crate::sink::BATCH_BYTES_MAX as u64),
            ("ANSWER_BYTES_MAX", crate::sink::ANSWER_BYTES_MAX as u64),
        ] {
            let line = format!("\n| `{name}` | {value} | ");
            assert!(
                document.contains(&line),
                "docs/defaults.md has no line for `{name}` with {value}"
            );
        }
        let options = LogOptions::new(PathBuf::new());
        for (name, value) in [
            ("queue_records_max", options.queue_records_max as u64),
            ("segment_bytes_max", options.segment_bytes_max),
            ("segment_hours_max", options.segment_age_max.as_secs() / 3600),
            ("retain_bytes_max", options.retain_bytes_max),
            ("reserve_bytes", options.reserve_bytes),
        ] {
            let line = format!("\n| [audit] `{name}` | {value} | ");
            assert!(
                document.contains(&line),
                "docs/defaults.md has no line for `{name}` with {value}"
            );
        }
        let line = format!(
            "\n| [audit] `repeats_max`, `repeat_window_ms` | {}, {} | ",
            options.repeats_max,
            options.repeat_window.as_millis()
        );
        assert!(document.contains(&line), "docs/defaults.md does not have `{line}`");
        assert_eq!(options.retain_age_max, None);
    }
}
