//! Signed documents: JSON, signed with Ed25519 over the RFC 8785 canonical form of the document without its
//! `signature` member. Pure functions over bytes; whoever reads the file hands the bytes in.

pub mod json;
pub mod key;
pub mod signed;
pub mod trust;

pub use json::JsonError;
pub use key::{KeyError, PrivateKey, PublicKey, WrongHalf};
pub use signed::{DocumentError, Header, Kind, Verified};
pub use trust::{TrustStore, Validity};
