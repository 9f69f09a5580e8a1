//! Logs as many lines of 100 bytes as the input says.

use aral_test_guests::imports::aral::capability::log::{Level, log};
use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    let lines: u64 = input
        .parse()
        .map_err(|_| Error::InvalidInput("not a number".to_owned()))?;
    marker_log("flooding");
    let line = "x".repeat(100);
    for _ in 0..lines {
        log(Level::Info, &line);
    }
    Ok(lines.to_string())
}
