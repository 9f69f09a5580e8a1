//! Whether a host would open the audit log and make its copies, and whether its newest checkpoint is signed by a key that is trusted. It
//! opens nothing for writing, so that it works beside a host.

use aral_audit::newest_checkpoint;
use aral_audit::verify::VerifyError;
use aral_contract::failure::chain;
use aral_host::Audit;

use super::Check;
use crate::cli::arguments::audit::Trust;
use crate::cli::audit;
use crate::cli::configured::Configured;

const NAME: &str = "audit";

pub(super) fn check(configured: &Configured) -> Check {
    let places = match audit::places(configured) {
        Ok(Some(places)) => places,
        Ok(None) => {
            return Check::warn(
                NAME,
                "there is no folder for an audit log: what happens is not kept",
                "aral.toml: state_dir = \"state\"",
            );
        }
        Err(failure) => return Check::failed(NAME, failure, "give [audit] a place, or the host a state_dir"),
    };
    let shown = places.dir.display();
    if let Err(failure) = audit::is_there(&places.dir) {
        return Check::failed(NAME, failure, "name a folder that can be opened, [audit]: dir");
    }
    match Audit::check(&configured.config, &places) {
        Ok(true) => {}
        Ok(false) => return Check::ok(NAME, format!("`{shown}` has no log yet; the first host begins it")),
        Err(failure) => {
            let fix = "name what can be used, [audit]: dir, key_file, blinding_key_file";
            return Check::failed(NAME, failure, fix);
        }
    }
    let trust = match audit::trust(&Trust { trust: Vec::new() }, configured) {
        Ok(trust) => trust,
        Err(failure) => {
            let fix = "put the public half of the log's key there again, or remove the file: the next start writes it";
            return Check::failed(NAME, failure, fix);
        }
    };
    match newest_checkpoint(&places.dir, &trust) {
        Ok(Some(newest)) => Check::ok(
            NAME,
            format!(
                "`{shown}`: {} records, signed for at {}",
                newest.head.size, newest.issued_at
            ),
        ),
        Ok(None) => Check::warn(
            NAME,
            format!("`{shown}` has no checkpoint: the host that made it was killed within a second"),
            "start a host; it goes on and signs",
        ),
        Err(error @ VerifyError::Anchor(_)) => Check::fail(
            NAME,
            format!("`{shown}`: {}", chain(&error)),
            "trust the public half of its key in aral.toml, [[trust]]: public_key = \"KEY.pub.pem\" and kinds = [\"checkpoint\"]",
        ),
        Err(error) => Check::fail(
            NAME,
            format!("`{shown}`: {}", chain(&error)),
            "see what is wrong with it: `aral audit verify`",
        ),
    }
}
