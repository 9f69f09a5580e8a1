//! The encrypted store is held to the contract of every backend.

use std::sync::Arc;

use aral_contract::Clock;

use crate::{MasterKey, RecordStore, SealedStore, StoreOptions};

fn opened(view: fn(&SealedStore) -> Arc<dyn RecordStore>) -> impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> {
    let folder = tempfile::tempdir().unwrap();
    let key = MasterKey::from_text(&[b'a'; 64]).unwrap();
    move |clock| {
        let mut options = StoreOptions::new(folder.path().join("store"), key.clone(), clock);
        options.free_bytes_min = 0;
        view(&SealedStore::open(options).unwrap())
    }
}

mod memory {
    use super::*;

    fn place() -> impl FnMut(Arc<dyn Clock>) -> Arc<dyn RecordStore> {
        opened(SealedStore::memory)
    }

    crate::record_store_contract!(place);

    #[test]
    fn random_operations_tell_it_from_the_model_in_nothing() {
        crate::testing::random::check(48, place);
    }
}

/// The same code under another first byte: what is drawn at random is enough.
#[test]
fn secrets_are_kept_like_what_agents_remember() {
    crate::testing::random::check(16, || opened(SealedStore::secrets));
}
