//! What a component comes to once all that it instantiates is laid out. One that instantiates another twice, which does so with a
//! third, comes to twice as much at each level: a few kilobytes say more than any compiler or host can follow, and validation
//! does not count it.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

/// What instantiating a component comes to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    /// Instances of modules and components.
    pub(super) instances: u64,
    /// Whatever else a component lists: types, functions, imports, exports and names for them.
    pub(super) items: u64,
}

impl Amount {
    /// What comes from outside and is not known here: too much.
    const UNKNOWN: Self = Self {
        instances: u64::MAX,
        items: u64::MAX,
    };

    fn add(&mut self, more: Self) {
        self.instances = self.instances.saturating_add(more.instances);
        self.items = self.items.saturating_add(more.items);
    }
}

/// What one component comes to, as far as it was read.
#[derive(Debug, Default)]
struct Level {
    amount: Amount,
    /// The same of each component that it can name, by index.
    components: Vec<Amount>,
    /// It is a module: it has no number among components.
    is_module: bool,
}

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

    /// What the outermost component comes to.
    pub(super) fn amount(&self) -> Amount {
        self.levels.first().map(|level| level.amount).unwrap_or_default()
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
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    let args = match instance? {
                        Instance::Instantiate { args, .. } => args.len(),
                        Instance::FromExports(exports) => exports.len(),
                    };
                    self.make(args);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    let args = match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            let inner = self.named(0, component_index);
                            self.add(inner);
                            args.len()
                        }
                        ComponentInstance::FromExports(exports) => exports.len(),
                    };
                    self.make(args);
                }
            }
            Payload::ComponentTypeSection(section) => self.list(section.count()),
            Payload::CoreTypeSection(section) => self.list(section.count()),
            Payload::ComponentCanonicalSection(section) => self.list(section.count()),
            Payload::ComponentAliasSection(section) => {
                self.list(section.count());
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
                        } => self.name(Amount::UNKNOWN),
                        ComponentAlias::Outer { .. }
                        | ComponentAlias::InstanceExport { .. }
                        | ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                self.list(section.count());
                for import in section.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        self.name(Amount::UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                self.list(section.count());
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
            self.name(ended.amount);
        }
    }

    fn add(&mut self, more: Amount) {
        if let Some(level) = self.levels.last_mut() {
            level.amount.add(more);
        }
    }

    /// One more instance, which is given or names so much.
    fn make(&mut self, args: usize) {
        self.add(Amount {
            instances: 1,
            items: u64::try_from(args).unwrap_or(u64::MAX),
        });
    }

    /// So many more items.
    fn list(&mut self, count: u32) {
        self.add(Amount {
            instances: 0,
            items: count.into(),
        });
    }

    fn name(&mut self, amount: Amount) {
        if let Some(level) = self.levels.last_mut() {
            level.components.push(amount);
        }
    }

    /// What the component `index` of the component `outward` levels around comes to.
    fn named(&self, outward: u32, index: u32) -> Amount {
        let level = usize::try_from(outward)
            .ok()
            .and_then(|out| self.levels.iter().rev().nth(out));
        let components = level.map(|level| &level.components);
        let amount = usize::try_from(index).ok().and_then(|index| components?.get(index));
        amount.copied().unwrap_or(Amount::UNKNOWN)
    }
}
