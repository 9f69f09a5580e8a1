//! What a component takes of a pool of instances, known before it is compiled. Never more than wasmtime counts, which looks again
//! when code is loaded: what is refused here would not load.

use crate::engine::CORE_INSTANCES_PER_COMPONENT_MAX;
use crate::guard::{MEMORIES_PER_CALL_MAX, TABLES_PER_CALL_MAX};

/// What is taken of a pool.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slots {
    /// Instances of core modules.
    pub(super) instances: u64,
    /// Linear memories that these define.
    pub(super) memories: u64,
    /// Tables that these define.
    pub(super) tables: u64,
}

impl Slots {
    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(more.instances),
            memories: self.memories.saturating_add(more.memories),
            tables: self.tables.saturating_add(more.tables),
        }
    }

    /// How much there may be, and of what, of which there is more.
    pub(super) fn beyond(self) -> Option<(u64, &'static str)> {
        let most = |most: usize| u64::try_from(most).unwrap_or(u64::MAX);
        let all = [
            (self.memories, most(MEMORIES_PER_CALL_MAX), "memories"),
            (self.tables, most(TABLES_PER_CALL_MAX), "tables"),
            (
                self.instances,
                u64::from(CORE_INSTANCES_PER_COMPONENT_MAX),
                "instances of core modules",
            ),
        ];
        let found = all.into_iter().find(|(found, most, _)| found > most);
        found.map(|(_, most, what)| (most, what))
    }
}
