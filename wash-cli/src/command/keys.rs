//! `wash keys`: make, show and list keys.

use std::path::Path;

use trellis_claims::SigningKey;

use crate::cli::{Keys, KeysGen, KeysGet, KeysList};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::keys::{KeyStore, KeyStoreError};
use crate::output::{self, Report};

pub(super) fn run(command: Keys, environment: &mut Environment) -> Result<Report, Failure> {
    match command {
        Keys::Gen(args) => generate(&args, environment),
        Keys::Get(args) => get(&args, environment),
        Keys::List(args) => list(&args, environment),
    }
}

fn generate(args: &KeysGen, environment: &mut Environment) -> Result<Report, Failure> {
    if args.print {
        let key = SigningKey::generate(args.kind);
        let seed = key.seed();
        let text = output::pairs([
            ("Public key".to_owned(), key.public().to_string()),
            ("Seed".to_owned(), seed.to_string()),
        ]);
        output::note("note: whoever has the seed has the key; it is not kept anywhere");
        return Ok(Report::new(text)
            .with("kind", args.kind.name())
            .with("public_key", key.public())
            .with("seed", seed.as_str()));
    }
    let name = args.name.as_deref().unwrap_or(args.kind.name());
    let key = store(args.directory.as_deref(), environment)?.generate(name, args.kind)?;
    let text = output::pairs([
        ("Public key".to_owned(), key.public.to_string()),
        ("File".to_owned(), key.path.display().to_string()),
    ]);
    Ok(Report::new(text)
        .with("kind", args.kind.name())
        .with("public_key", &key.public)
        .with("path", &key.path))
}

fn get(args: &KeysGet, environment: &mut Environment) -> Result<Report, Failure> {
    // The suffix of the file is accepted too.
    let name = args.name.strip_suffix(".nk").unwrap_or(&args.name);
    let (stored, key) = store(args.directory.as_deref(), environment)?.get(name)?;
    let kind = stored.public.kind();
    let report = |text| {
        Report::new(text)
            .with("name", &stored.name)
            .with("kind", kind.name())
            .with("public_key", &stored.public)
            .with("path", &stored.path)
    };
    if args.public {
        return Ok(report(format!("{}\n", stored.public)));
    }
    output::note("note: whoever has the seed has the key");
    let seed = key.seed();
    let text = output::pairs([
        ("Public key".to_owned(), stored.public.to_string()),
        ("Seed".to_owned(), seed.to_string()),
    ]);
    Ok(report(text).with("seed", seed.as_str()))
}

/// The directory that a flag names, or the usual one.
fn store(
    directory: Option<&Path>,
    environment: &mut Environment,
) -> Result<KeyStore, KeyStoreError> {
    match directory {
        Some(directory) => Ok(KeyStore::new(directory)),
        None => KeyStore::of(environment),
    }
}

fn list(args: &KeysList, environment: &mut Environment) -> Result<Report, Failure> {
    let store = store(args.directory.as_deref(), environment)?;
    let keys = store.list()?;
    let text = if keys.is_empty() {
        output::note(&format!(
            "note: no keys in {}; the first `wash build` or `wash up` makes them",
            store.directory().display()
        ));
        String::new()
    } else {
        output::table(
            &["name", "kind", "public key", "file"],
            keys.iter().map(|key| {
                vec![
                    key.name.clone(),
                    key.public.kind().to_string(),
                    key.public.to_string(),
                    key.path.display().to_string(),
                ]
            }),
        )
    };
    let listed: Vec<_> = keys
        .iter()
        .map(|key| {
            serde_json::json!({
                "name": key.name,
                "kind": key.public.kind().name(),
                "public_key": key.public,
                "path": key.path,
            })
        })
        .collect();
    Ok(Report::new(text)
        .with("directory", store.directory())
        .with("keys", listed))
}
