//! The four ways to call the echo capability that are compared: the floors, and the whole path.

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
    /// It outlives the host, which keeps its state there.
    _state: tempfile::TempDir,
}

impl Ways {
    /// Compiles the component for each.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        let component = crate::echo_component()?;
        let state = tempfile::tempdir()?;
        let folder = state.path().join("state");
        Ok(Self {
            untuned: Floor::new(&component, Pool::Untuned)?,
            tuned: Floor::new(&component, Pool::Tuned)?,
            zeroing: Floor::new(&component, Pool::TunedZeroing)?,
            governed: runtime.block_on(Governed::new(&Documents::echo()?, &folder, crate::INPUT))?,
            _state: state,
        })
    }
}
