//! Ends itself with `exit` where an answer is due, if the input says so.

use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    marker_log("about to exit");
    if input.contains("exit") {
        std::process::exit(0);
    }
    Ok("\"stayed\"".to_owned())
}
