//! Answers its input. The neighbour that must work after every attack.

aral_test_guests::tool!(serve);

fn serve(input: &str) -> Result<String, Error> {
    Ok(input.to_owned())
}
