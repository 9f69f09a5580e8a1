//! The ways to call the echo capability that are compared: the floors, and the whole path with and without an audit log.

use anyhow::Result;
use tokio::runtime::Runtime;

use crate::floor::{Floor, Pool};
use crate::governed::{Documents, Governed};

/// All of them, ready to be called.
pub struct Ways {
    /// [`Pool::Untuned`].
    pub untuned: Floor,
    /// [`Pool::Tuned`].
    pub tuned: Floor,
    /// [`Pool::TunedZeroing`].
    pub zeroing: Floor,
    /// A host, warmed up by one call.
    pub governed: Governed,
    /// The same without an audit log.
    pub unrecorded: Governed,
    /// It outlives the hosts, which keep their state there.
    _state: tempfile::TempDir,
}

impl Ways {
    /// Compiles the component for each.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let component = crate::echo_component()?;
        let documents = Documents::echo()?;
        let state = tempfile::tempdir()?;
        let [recorded, unrecorded] = ["recorded", "unrecorded"].map(|name| state.path().join(name));
        Ok(Self {
            untuned: Floor::new(&component, Pool::Untuned)?,
            tuned: Floor::new(&component, Pool::Tuned)?,
            zeroing: Floor::new(&component, Pool::TunedZeroing)?,
            governed: runtime.block_on(Governed::new(&documents, &recorded, crate::INPUT))?,
            unrecorded: runtime.block_on(Governed::unrecorded(&documents, &unrecorded, crate::INPUT))?,
            _state: state,
        })
    }
}
