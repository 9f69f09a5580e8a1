//! How many instances a component makes in all. One that instantiates another twice, which does so with a third, makes twice as many
//! at each level: a few kilobytes say more than any compiler or host can follow, and validation does not count them.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Payload,
};

/// What one component makes, as far as it was read.
#[derive(Debug, Default)]
struct Level {
    /// Instances that are made when it is instantiated.
    made: u64,
    /// The same of each component that it can name, by index.
    components: Vec<u64>,
    /// It is a module: it has no number among components.
    is_module: bool,
}

/// What comes from outside and is not known here: too many.
const UNKNOWN: u64 = u64::MAX;

/// Counts while a component is read, whose parts are valid.
#[derive(Debug)]
pub(super) struct Instances {
    /// Outermost first.
    levels: Vec<Level>,
}

impl Instances {
    pub(super) fn new() -> Self {
        Self {
            levels: vec![Level::default()],
        }
    }

    /// How many the outermost component makes.
    pub(super) fn made(&self) -> u64 {
        self.levels.first().map_or(0, |level| level.made)
    }

    /// Takes the next part.
    pub(super) fn see(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ModuleSection { .. } => self.levels.push(Level {
                is_module: true,
                ..Level::default()
            }),
            Payload::ComponentSection { .. } => self.levels.push(Level::default()),
            Payload::End(_) => self.end(),
            Payload::InstanceSection(section) => self.make(section.count().into()),
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    let inner = match instance? {
                        ComponentInstance::Instantiate { component_index, .. } => self.named(0, component_index),
                        ComponentInstance::FromExports(_) => 0,
                    };
                    self.make(inner.saturating_add(1));
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    match alias? {
                        ComponentAlias::Outer {
                            kind: ComponentOuterAliasKind::Component,
                            count,
                            index,
                        } => self.name(self.named(count, index)),
                        ComponentAlias::InstanceExport {
                            kind: ComponentExternalKind::Component,
                            ..
                        } => self.name(UNKNOWN),
                        ComponentAlias::Outer { .. }
                        | ComponentAlias::InstanceExport { .. }
                        | ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        self.name(UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        self.name(self.named(0, export.index));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The part that was begun last has ended: a component can be named by the one around it.
    fn end(&mut self) {
        if self.levels.len() < 2 {
            return;
        }
        let ended = self.levels.pop();
        if let Some(ended) = ended.filter(|ended| !ended.is_module) {
            self.name(ended.made);
        }
    }

    fn make(&mut self, count: u64) {
        if let Some(level) = self.levels.last_mut() {
            level.made = level.made.saturating_add(count);
        }
    }

    fn name(&mut self, made: u64) {
        if let Some(level) = self.levels.last_mut() {
            level.components.push(made);
        }
    }

    /// What the component `index` of the component `outward` levels around makes.
    fn named(&self, outward: u32, index: u32) -> u64 {
        let level = usize::try_from(outward)
            .ok()
            .and_then(|out| self.levels.iter().rev().nth(out));
        let components = level.map(|level| &level.components);
        let made = usize::try_from(index).ok().and_then(|index| components?.get(index));
        made.copied().unwrap_or(UNKNOWN)
    }
}
