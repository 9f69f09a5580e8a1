//! Panics, if the input says so.

use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    marker_log("about to panic");
    assert!(!input.contains("panic"), "the secret of this panic is 4711");
    Ok("\"calm\"".to_owned())
}
