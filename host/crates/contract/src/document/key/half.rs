//! Which half of a pair a PEM text says that it holds: whoever names the wrong one needs the other, and no new pair.

/// The wrong half of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongHalf {
    /// The public one.
    #[error("a public key, where the private one of its pair is wanted: name the file `NAME.pem` beside it")]
    Public,
    /// The private one.
    #[error("a private key, where the public one of its pair is wanted: name the file `NAME.pub.pem` beside it")]
    Private,
}

impl WrongHalf {
    /// Where a private key is wanted: whether a text says that it is a public one, of whatever kind. One with both halves is none.
    pub fn public(text: &str) -> Option<Self> {
        (says(text, "PUBLIC KEY") && !says(text, "PRIVATE KEY")).then_some(Self::Public)
    }

    /// Where a public key is wanted: whether a text says that it is a private one, of whatever kind, encrypted or not.
    pub fn private(text: &str) -> Option<Self> {
        says(text, "PRIVATE KEY").then_some(Self::Private)
    }
}

fn says(text: &str, half: &str) -> bool {
    text.lines().any(|line| {
        line.trim_end()
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            .is_some_and(|label| label.ends_with(half))
    })
}
