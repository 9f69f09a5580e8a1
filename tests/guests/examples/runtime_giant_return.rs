//! Answers with a JSON string of as many bytes as the input says.

use aral_test_guests::marker_log;

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    let bytes: usize = input
        .parse()
        .map_err(|_| Error::InvalidInput("not a number".to_owned()))?;
    marker_log("returning");
    Ok(format!("\"{}\"", "x".repeat(bytes)))
}
