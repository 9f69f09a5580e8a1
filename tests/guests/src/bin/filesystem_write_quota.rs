//! Writes `files` files of `bytes` bytes each below `base`, and says how far it came.

use std::fs;

use aral_test_guests::{marker, run};
use serde_json::json;

fn main() {
    run(|input| {
        let base = input["base"].as_str().expect("a folder");
        let files = input["files"].as_u64().expect("a count");
        let bytes = input["bytes"].as_u64().expect("a size") as usize;
        marker("writing");
        let mut error = None;
        let mut written = 0;
        for index in 0..files {
            match fs::write(format!("{base}/file-{index}"), vec![b'x'; bytes]) {
                Ok(()) => written += 1,
                Err(refused) => {
                    error = Some(format!("{:?}: {refused}", refused.kind()));
                    break;
                }
            }
        }
        json!({ "written": written, "error": error })
    });
}
