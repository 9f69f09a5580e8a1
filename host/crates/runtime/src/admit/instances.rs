//! What a component comes to once all that it instantiates is laid out. One that instantiates another twice, which does so with a
//! third, comes to twice as much at each level, and so does an instance that exports another twice: the compiler copies what it
//! names. A few kilobytes say more than any compiler or host can follow, and validation does not count it.

use wasmparser::component_types::ComponentAnyTypeId;
use wasmparser::types::TypesRef;
use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExport, ComponentExternalKind, ComponentInstance,
    ComponentInstantiationArg, ComponentOuterAliasKind, ComponentTypeRef, Instance, Payload,
};

use super::size::Size;
use super::slots::Slots;
use super::type_sizes::TypeSizes;

/// What instantiating a component comes to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Amount {
    /// Instances of modules and components.
    pub(super) instances: u64,
    /// Whatever else is listed, or copied to where it is named: types, functions, imports, exports and names for them.
    pub(super) items: u64,
    /// What of that a pool must have room for, as far as it is known.
    pub(super) slots: Slots,
}

/// What one component comes to each time that it is instantiated.
#[derive(Debug, Clone, Copy)]
struct Known {
    instances: u64,
    slots: Slots,
    items: Size,
    /// What is in an instance of it.
    exports: Size,
    /// What it takes along from the components around it, and what that takes along: copied wherever it is named.
    taken: Size,
}

impl Known {
    /// What comes from outside and is not known here: too much.
    const UNKNOWN: Self = Self {
        instances: u64::MAX,
        slots: Slots {
            instances: 0,
            memories: 0,
            tables: 0,
        },
        items: Size::UNKNOWN,
        exports: Size::UNKNOWN,
        taken: Size::GIVEN,
    };
}

/// What one component comes to, as far as it was read.
#[derive(Debug, Default)]
struct Level {
    instances: u64,
    /// Of a module: those of each instance of it.
    slots: Slots,
    items: Size,
    exports: Size,
    taken: Size,
    /// Each component that it can name, by index.
    components: Vec<Known>,
    /// The same for modules; of those that come from outside nothing is known.
    modules: Vec<Slots>,
    /// What is in each instance of a component that it can name, by index.
    made: Vec<Size>,
    /// As many of them have had their types counted.
    typed: u32,
    /// It is a module: it has no number among components.
    is_module: bool,
}

/// Counts while a component is read, whose parts are valid.
#[derive(Debug)]
pub(super) struct Instances {
    /// Outermost first.
    levels: Vec<Level>,
    types: TypeSizes,
}

impl Instances {
    pub(super) fn new() -> Self {
        Self {
            levels: vec![Level::default()],
            types: TypeSizes::default(),
        }
    }

    /// What the outermost component comes to. What the host gives to it is not copied.
    pub(super) fn amount(&self) -> Amount {
        let outermost = self.levels.first();
        outermost.map_or_else(Amount::default, |level| Amount {
            instances: level.instances,
            items: level.items.with(Size::ONE).own,
            slots: level.slots,
        })
    }

    /// Takes the next part. `types` are those of the component that it stands in, this part included.
    pub(super) fn see(&mut self, payload: &Payload<'_>, types: Option<TypesRef<'_>>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::ModuleSection { .. } => self.levels.push(Level {
                is_module: true,
                slots: Slots {
                    instances: 1,
                    ..Slots::default()
                },
                ..Level::default()
            }),
            Payload::MemorySection(section) => self.take(Slots {
                memories: section.count().into(),
                ..Slots::default()
            }),
            Payload::TableSection(section) => self.take(Slots {
                tables: section.count().into(),
                ..Slots::default()
            }),
            Payload::ComponentSection { .. } => self.levels.push(Level::default()),
            Payload::End(_) => self.end(),
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    let args = match instance? {
                        Instance::Instantiate { module_index, args } => {
                            self.take(self.module(0, module_index));
                            args.len()
                        }
                        Instance::FromExports(exports) => exports.len(),
                    };
                    self.count(1, items(args));
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    match instance? {
                        ComponentInstance::Instantiate { component_index, args } => {
                            self.instantiate(component_index, &args, types);
                        }
                        ComponentInstance::FromExports(exports) => self.gather(&exports),
                    }
                }
                self.count_types(types);
            }
            Payload::ComponentTypeSection(section) => self.list(section.count()),
            Payload::CoreTypeSection(section) => self.list(section.count()),
            Payload::ComponentCanonicalSection(section) => self.list(section.count()),
            Payload::ComponentAliasSection(section) => {
                self.list(section.count());
                for alias in section.clone() {
                    self.alias(&alias?);
                }
                self.count_types(types);
            }
            Payload::ComponentImportSection(section) => {
                self.list(section.count());
                for import in section.clone() {
                    self.import(import?.ty);
                }
                self.count_types(types);
            }
            Payload::ComponentExportSection(section) => {
                self.list(section.count());
                for export in section.clone() {
                    self.export(&export?);
                }
                self.count_types(types);
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
        let Some(ended) = self.levels.pop() else { return };
        if ended.is_module {
            self.name_module(ended.slots);
        } else {
            self.name(Known {
                instances: ended.instances,
                slots: ended.slots,
                items: ended.items,
                exports: ended.exports,
                taken: ended.taken,
            });
        }
    }

    fn instantiate(&mut self, component: u32, args: &[ComponentInstantiationArg<'_>], types: Option<TypesRef<'_>>) {
        let known = self.component(0, component);
        let mut largest = Size::ONE;
        for arg in args {
            let size = self.size(arg.kind, arg.index);
            largest = largest.or(size);
            self.count(0, size);
            if let (ComponentExternalKind::Type, Some(types)) = (arg.kind, types) {
                let own = self.types.of(types, types.component_any_type_at(arg.index));
                self.count(0, Size { own, given: 0 });
            }
        }
        self.take(known.slots);
        self.count(known.instances, known.items.with(largest).plus(known.taken));
        self.make(known.exports.with(largest));
    }

    /// An instance of what is there already.
    fn gather(&mut self, exports: &[ComponentExport<'_>]) {
        let sizes = exports.iter().map(|export| self.size(export.kind, export.index));
        let size = sizes.fold(Size::default(), Size::plus);
        self.make(size);
    }

    /// What comes from outside can be named from now on.
    fn import(&mut self, ty: ComponentTypeRef) {
        match ty {
            ComponentTypeRef::Component(_) => self.name(Known::UNKNOWN),
            ComponentTypeRef::Instance(_) => self.hold(Size::GIVEN),
            ComponentTypeRef::Module(_) => self.name_module(Slots::default()),
            ComponentTypeRef::Func(_) | ComponentTypeRef::Value(_) | ComponentTypeRef::Type(_) => {}
        }
    }

    /// What is exported gets one more number, and is in every instance of this component.
    fn export(&mut self, export: &ComponentExport<'_>) {
        let size = self.size(export.kind, export.index);
        match export.kind {
            ComponentExternalKind::Component => self.name(self.component(0, export.index)),
            ComponentExternalKind::Instance => self.hold(size),
            ComponentExternalKind::Module => self.name_module(self.module(0, export.index)),
            ComponentExternalKind::Func | ComponentExternalKind::Value | ComponentExternalKind::Type => {}
        }
        self.count(0, size);
        if let Some(level) = self.levels.last_mut() {
            level.exports = level.exports.plus(size);
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        match alias {
            ComponentAlias::Outer { kind, count, index } => {
                let taken = match kind {
                    ComponentOuterAliasKind::Component => {
                        let known = self.component(*count, *index);
                        self.name(known);
                        known.taken.plus(Size::ONE)
                    }
                    ComponentOuterAliasKind::CoreModule => {
                        self.name_module(self.module(*count, *index));
                        Size::ONE
                    }
                    ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return,
                };
                // Each component between here and there takes it along.
                let between = usize::try_from(*count).unwrap_or(usize::MAX);
                for level in self.levels.iter_mut().rev().take(between) {
                    level.taken = level.taken.plus(taken);
                }
            }
            // Of what is in an instance no more is known than that it is not larger.
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Instance,
                instance_index,
                ..
            } => self.hold(self.instance(*instance_index)),
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Component,
                instance_index,
                ..
            } => {
                self.count(0, self.instance(*instance_index));
                self.name(Known::UNKNOWN);
            }
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Module,
                ..
            } => self.name_module(Slots::default()),
            ComponentAlias::InstanceExport { .. } | ComponentAlias::CoreInstanceExport { .. } => {}
        }
    }

    fn count(&mut self, instances: u64, items: Size) {
        if let Some(level) = self.levels.last_mut() {
            level.instances = level.instances.saturating_add(instances);
            level.items = level.items.plus(items);
        }
    }

    /// So much more of a pool.
    fn take(&mut self, slots: Slots) {
        if let Some(level) = self.levels.last_mut() {
            level.slots = level.slots.plus(slots);
        }
    }

    /// A module of which each instance takes so much can be named from now on.
    fn name_module(&mut self, slots: Slots) {
        if let Some(level) = self.levels.last_mut() {
            level.modules.push(slots);
        }
    }

    /// What an instance of the module `index` of the component `outward` levels around takes.
    fn module(&self, outward: u32, index: u32) -> Slots {
        let level = usize::try_from(outward)
            .ok()
            .and_then(|out| self.levels.iter().rev().nth(out));
        let slots = usize::try_from(index).ok().and_then(|index| level?.modules.get(index));
        slots.copied().unwrap_or_default()
    }

    /// So many more items.
    fn list(&mut self, count: u32) {
        self.count(
            0,
            Size {
                own: count.into(),
                given: 0,
            },
        );
    }

    /// One more instance, with so much in it.
    fn make(&mut self, size: Size) {
        self.count(1, Size::default());
        self.hold(size.plus(Size::ONE));
    }

    /// What is so large can be named from now on.
    fn hold(&mut self, size: Size) {
        self.count(0, size);
        if let Some(level) = self.levels.last_mut() {
            level.made.push(size);
        }
    }

    /// The same for a component.
    fn name(&mut self, known: Known) {
        self.count(0, known.taken);
        if let Some(level) = self.levels.last_mut() {
            level.components.push(known);
        }
    }

    /// The types of the instances that are new: the compiler writes them out for each.
    fn count_types(&mut self, types: Option<TypesRef<'_>>) {
        let (Some(types), Some(level)) = (types, self.levels.last_mut()) else {
            return;
        };
        while level.typed < types.component_instance_count() {
            let id = ComponentAnyTypeId::Instance(types.component_instance_at(level.typed));
            let own = self.types.of(types, id);
            level.items = level.items.plus(Size { own, given: 0 });
            level.typed = level.typed.saturating_add(1);
        }
    }

    /// What is copied of this wherever it is named.
    fn size(&self, kind: ComponentExternalKind, index: u32) -> Size {
        match kind {
            ComponentExternalKind::Instance => self.instance(index),
            ComponentExternalKind::Component => self.component(0, index).taken.plus(Size::ONE),
            ComponentExternalKind::Module
            | ComponentExternalKind::Func
            | ComponentExternalKind::Value
            | ComponentExternalKind::Type => Size::ONE,
        }
    }

    fn instance(&self, index: u32) -> Size {
        let made = self.levels.last().map(|level| &level.made);
        let size = usize::try_from(index).ok().and_then(|index| made?.get(index));
        size.copied().unwrap_or(Size::UNKNOWN)
    }

    /// The component `index` of the component `outward` levels around.
    fn component(&self, outward: u32, index: u32) -> Known {
        let level = usize::try_from(outward)
            .ok()
            .and_then(|out| self.levels.iter().rev().nth(out));
        let components = level.map(|level| &level.components);
        let known = usize::try_from(index).ok().and_then(|index| components?.get(index));
        known.copied().unwrap_or(Known::UNKNOWN)
    }
}

fn items(count: usize) -> Size {
    Size {
        own: u64::try_from(count).unwrap_or(u64::MAX),
        given: 0,
    }
}
