//! The WIT behind a macro call, read and resolved, and which of its interfaces become modules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use wit_parser::{InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

use crate::input::Input;
use crate::names;

/// Everything that the call's files say.
pub(crate) struct Package {
    /// The resolved WIT.
    pub(crate) resolve: Resolve,
    /// Whether the types are those of components, too.
    pub(crate) component: bool,
    modules: Vec<Module>,
    files: Vec<String>,
}

/// One module to generate.
pub(crate) struct Module {
    /// Its interface.
    pub(crate) id: InterfaceId,
    /// The interface's full name.
    pub(crate) full_name: String,
    /// The interface's own name.
    pub(crate) name: String,
    /// Whether its functions were asked for, or only its types are needed.
    pub(crate) with_functions: bool,
}

impl Package {
    /// Reads the files, relative to the manifest of the crate that is compiled.
    pub(crate) fn load(input: &Input) -> Result<Self, String> {
        let root = std::env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .ok_or("cargo did not say where the manifest is (CARGO_MANIFEST_DIR)")?;
        let mut resolve = Resolve::default();
        let mut files = BTreeSet::new();
        for path in &input.paths {
            let path = root.join(path);
            let (_, sources) = resolve
                .push_path(&path)
                .map_err(|error| format!("cannot read WIT: {}", resolve.render_error(&error)))?;
            for file in sources.paths() {
                let file = root.join(file);
                let text = file.to_str().ok_or("a path is not UTF-8")?;
                files.insert(text.to_owned());
            }
        }
        let modules = select(&resolve, &input.interfaces)?;
        Ok(Self {
            resolve,
            component: input.component,
            modules,
            files: files.into_iter().collect(),
        })
    }

    /// The modules, those that others take types from first.
    pub(crate) fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// Absolute paths of the files that were read.
    pub(crate) fn files(&self) -> &[String] {
        &self.files
    }

    /// Whether handles of an interface's resources can be carried: the interface was asked for.
    pub(crate) fn serves(&self, interface: InterfaceId) -> bool {
        self.modules
            .iter()
            .any(|module| module.id == interface && module.with_functions)
    }

    /// Follows aliases to the type that is meant.
    pub(crate) fn target(&self, mut id: TypeId) -> TypeId {
        while let TypeDefKind::Type(Type::Id(next)) = self.resolve.types[id].kind {
            id = next;
        }
        id
    }

    /// Full name of the interface that a type belongs to.
    pub(crate) fn owner(&self, id: TypeId) -> Option<InterfaceId> {
        match self.resolve.types[id].owner {
            TypeOwner::Interface(interface) => Some(interface),
            _ => None,
        }
    }
}

fn select(resolve: &Resolve, wanted: &[String]) -> Result<Vec<Module>, String> {
    let mut chosen: BTreeMap<String, (InterfaceId, bool)> = BTreeMap::new();
    for name in wanted {
        let found = resolve
            .interfaces
            .iter()
            .find(|(id, _)| resolve.id_of(*id).as_deref() == Some(name));
        let Some((id, _)) = found else {
            let known: Vec<_> = resolve
                .interfaces
                .iter()
                .filter_map(|(id, _)| resolve.id_of(id))
                .collect();
            return Err(format!(
                "no interface `{name}` in these paths, which have {}",
                known.join(", ")
            ));
        };
        if chosen.insert(name.clone(), (id, true)).is_some() {
            return Err(format!("interface `{name}` stands twice"));
        }
    }
    // What the chosen ones take types from comes with them, and what those take types from.
    let mut open: Vec<_> = chosen.values().map(|(id, _)| *id).collect();
    while let Some(id) = open.pop() {
        for dependency in resolve.interface_direct_deps(id) {
            let name = resolve
                .id_of(dependency)
                .ok_or("types of an interface without a name cannot be used")?;
            chosen.entry(name).or_insert_with(|| {
                open.push(dependency);
                (dependency, false)
            });
        }
    }
    let mut modules = BTreeMap::new();
    for (full_name, (id, with_functions)) in chosen {
        let name = resolve.interfaces[id].name.clone().unwrap_or_default();
        let module = Module {
            id,
            full_name,
            name,
            with_functions,
        };
        if let Some(other) = modules.insert(names::snake(&module.name).to_string(), module) {
            let module = other.name;
            return Err(format!(
                "two interfaces would be the module `{module}`: call the macro once for each, in modules of your own"
            ));
        }
    }
    Ok(modules.into_values().collect())
}
