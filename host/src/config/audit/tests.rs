//! Every key of `[audit]`, changed alone; and what is refused, with the key.

use std::path::Path;

use aral_audit::Durability;
use aral_contract::document::TrustStore;
use aral_contract::{Code, Failure};
use aral_runtime::files;

use super::*;
use crate::config::Config;
use crate::config::tests::{Folder, load};

fn audit(text: &str) -> AuditConfig {
    load(&format!("state_dir = \"state\"\n{text}")).audit.unwrap()
}

fn refused(text: &str) -> Failure {
    let failure = Folder::with(&format!("state_dir = \"state\"\n{text}"))
        .load()
        .unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid, "{failure}");
    failure
}

#[test]
fn without_the_table_there_is_a_log_below_the_folder_of_state() {
    assert_eq!(audit(""), AuditConfig::default());
    assert_eq!(audit("[audit]"), AuditConfig::default());
    let places = AuditConfig::default().places(Some(Path::new("/s"))).unwrap().unwrap();
    assert_eq!(
        places,
        AuditPlaces {
            dir: "/s/audit".into(),
            key: "/s/audit.pem".into(),
            public_key: Some("/s/audit.pub.pem".into()),
            blinding_key: "/s/audit.blind".into(),
            head: Some("/s/audit.head".into()),
        }
    );
    assert_eq!(AuditConfig::default().places(None), Ok(None));
    assert_eq!(Config::closed().unwrap().audit, Some(AuditConfig::default()));
}

#[test]
fn every_key_is_read() {
    let folder = Folder::with(
        r#"
        state_dir = "state"
        [audit]
        dir = "log"
        key_file = "k.pem"
        blinding_key_file = "b"
        durability = "async"
        segment_bytes_max = 2048
        segment_hours_max = 2
        retain_bytes_max = 4096
        retain_days_max = 3
        queue_records_max = 7
        reserve_bytes = 8
        repeats_max = 9
        repeat_window_ms = 10
        stdout = true
        [audit.elasticsearch]
        address = "https://e.example"
        index = "i"
        ca_file = "ca.pem"
        authorization_file = "auth"
        timeout_ms = 11
        [audit.otlp]
        address = "https://o.example"
        service = "s"
        ca_file = "ca.pem"
        authorization_file = "auth"
        timeout_ms = 12
        "#,
    );
    let config = folder.load().unwrap();
    let base = files::canonical(&folder.path("")).unwrap();
    let pem = Some(files::read_path(&folder.path("ca.pem"), 1 << 20).unwrap());
    let server = |address: &str, timeout_ms| ServerConfig {
        address: address.to_owned(),
        ca_pem: pem.clone(),
        authorization_file: Some(base.join("auth")),
        timeout_ms,
    };
    let expected = AuditConfig {
        dir: Some(base.join("log")),
        key_file: Some(base.join("k.pem")),
        blinding_key_file: Some(base.join("b")),
        log: LogOptions {
            directory: PathBuf::new(),
            head_file: None,
            trust: TrustStore::default(),
            durability: Durability::Async,
            segment_bytes_max: 2048,
            segment_age_max: Duration::from_hours(2),
            retain_bytes_max: 4096,
            retain_age_max: Some(Duration::from_hours(72)),
            queue_records_max: 7,
            reserve_bytes: 8,
            repeats_max: 9,
            repeat_window: Duration::from_millis(10),
        },
        stdout: true,
        stdout_elsewhere: false,
        elasticsearch: Some(ElasticsearchConfig {
            server: server("https://e.example", 11),
            index: "i".to_owned(),
        }),
        otlp: Some(OtlpConfig {
            server: server("https://o.example", 12),
            service: "s".to_owned(),
        }),
    };
    assert_eq!(config.audit, Some(expected.clone()));
    // Whoever names the private key keeps the public one too.
    let places = expected.places(config.state_dir.as_deref()).unwrap().unwrap();
    assert_eq!((places.key, places.public_key), (base.join("k.pem"), None));
    let elsewhere = AuditConfig {
        dir: Some(base.join("other")),
        ..expected.clone()
    };
    let elsewhere = elsewhere.places(config.state_dir.as_deref()).unwrap().unwrap();
    assert_ne!(elsewhere.head, places.head, "two logs may share a folder of state");
}

#[test]
fn what_cannot_be_is_refused_with_the_key() {
    for (text, part) in [
        ("[audit]\nsegment_bytes_max = 1", "segment_bytes_max = 1"),
        ("[audit]\nsegment_hours_max = 0", "segment_hours_max = 0"),
        ("[audit]\nretain_bytes_max = 1024", "retain_bytes_max = 1024"),
        ("[audit]\nretain_days_max = 0", "retain_days_max = 0"),
        ("[audit]\nqueue_records_max = 0", "queue_records_max = 0"),
        (
            "[audit]\nreserve_bytes = 9999999999999",
            "reserve_bytes = 9999999999999",
        ),
        ("[audit]\nrepeats_max = 0", "repeats_max = 0"),
        ("[audit]\nrepeat_window_ms = 0", "repeat_window_ms = 0"),
        ("[audit]\ndurability = \"never\"", "never"),
        ("[audit]\nfile = false", "file"),
        ("[audit.elasticsearch]\nindex = \"i\"", "address"),
        (
            "[audit.elasticsearch]\naddress = \"https://e\"\nindex = \"_bulk\"",
            "_bulk",
        ),
        (
            "[audit.otlp]\naddress = \"https://e\"\ntimeout_ms = 0",
            "[audit.otlp] timeout_ms = 0 is not between",
        ),
    ] {
        let failure = refused(text);
        assert!(failure.message.contains(part), "{text}: {failure}");
    }
    let nowhere = AuditConfig {
        dir: Some("/log".into()),
        ..AuditConfig::default()
    };
    let error = nowhere.places(None).unwrap_err();
    assert_eq!(error, AuditConfigError::NoFolder { key: "key_file" });
    assert!(error.hint().unwrap().contains("[audit]: key_file"));
}
