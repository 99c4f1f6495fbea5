//! `wash ctx`: named sets of the flags that lead to a lattice.

use std::path::PathBuf;
use std::process::Command;

use crate::cli::{Ctx, CtxEdit, CtxList, CtxName, CtxNew, Global};
use crate::confirm::{self, Unattended, confirm};
use crate::context::{Context, Contexts};
use crate::environment::{self, Environment};
use crate::exit::Failure;
use crate::keys::KeySource;
use crate::output::{self, Report};
use crate::settings::Settings;

/// The editor of whoever names none: the one that POSIX promises.
const EDITOR_DEFAULT: &str = "vi";

pub(super) fn run(
    command: &Ctx,
    global: &Global,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    match command {
        Ctx::List(args) => list(args, environment),
        Ctx::New(args) => new(args, global, environment),
        Ctx::Default(args) => default(args, environment),
        Ctx::Edit(args) => edit(args, environment),
        Ctx::Del(args) => delete(args, global, environment),
    }
}

fn list(args: &CtxList, environment: &mut Environment) -> Result<Report, Failure> {
    let contexts = Contexts::of(args.place.directory.as_deref(), environment)?;
    let (names, default) = (contexts.list()?, contexts.default_name()?);
    if names.is_empty() {
        output::note(&format!(
            "note: there are no contexts in {}; `wash ctx new` makes one",
            contexts.directory().display()
        ));
    }
    let mut rows = Vec::with_capacity(names.len());
    for name in &names {
        let mark = if default.as_deref() == Some(name) {
            "*"
        } else {
            ""
        };
        // One that cannot be read is listed all the same: `wash ctx edit` mends it.
        let (servers, lattice) = match contexts.load(name) {
            Ok(context) => (
                context.servers().unwrap_or_default(),
                context.lattice.unwrap_or_default(),
            ),
            Err(_) => ("cannot be read".to_owned(), String::new()),
        };
        rows.push(vec![mark.to_owned(), name.clone(), servers, lattice]);
    }
    let text = if rows.is_empty() {
        String::new()
    } else {
        output::table(&["", "name", "nats url", "lattice"], rows)
    };
    Ok(Report::new(text)
        .with("directory", contexts.directory())
        .with("contexts", names)
        .with("default", default))
}

fn new(args: &CtxNew, global: &Global, environment: &mut Environment) -> Result<Report, Failure> {
    let contexts = Contexts::of(args.place.directory.as_deref(), environment)?;
    if let Some(seed) = &global.nats_seed {
        // Refused here as anywhere: a seed on the command line is no secret any more.
        KeySource::parse(seed).map_err(|error| Failure::usage(format!("--nats-seed: {error}")))?;
    }
    let mut context = of_flags(global)?;
    if args.interactive {
        if !confirm::can_ask() {
            return Err(Failure::usage(
                "wash ctx new: --interactive needs a terminal; say with flags what the context holds",
            ));
        }
        ask_for_the_rest(&mut context)?;
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => confirm::ask("Name of the context: ")?,
    };
    let path = contexts.save(&name, &context, args.replace)?;
    let first = contexts.list()?.len() == 1;
    let report = Report::new(format!("context {name} is in {}\n", path.display()))
        .with("name", &name)
        .with("path", &path);
    Ok(if first {
        report.aside(format!(
            "note: `wash ctx default {name}` makes it the one that counts where none is named"
        ))
    } else {
        report
    })
}

/// What the flags of this command say of a lattice. The environment is left out: it counts when the context is used.
fn of_flags(global: &Global) -> Result<Context, Failure> {
    let host = global.ctl_host.as_deref();
    let port = global.ctl_port;
    // Flags are checked as those of any other command are.
    Settings::resolve(
        &Global {
            context: None,
            // These are looked at when the context is used: a file or a variable need not be there yet.
            nats_jwt: None,
            nats_seed: None,
            signer: Some("none".to_owned()),
            ..global.clone()
        },
        &mut Environment::default(),
    )?;
    let absolute = |path: &Option<PathBuf>| {
        path.as_ref()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
    };
    Ok(Context {
        nats_url: global.nats_url.clone().or_else(|| {
            (host.is_some() || port.is_some()).then(|| {
                crate::settings::server_url(
                    host.unwrap_or("127.0.0.1"),
                    port.unwrap_or(crate::cli::NATS_PORT_DEFAULT),
                )
            })
        }),
        lattice: global.lattice.as_ref().map(ToString::to_string),
        creds: absolute(&global.creds),
        nats_jwt: global.nats_jwt.clone(),
        nats_seed: global.nats_seed.clone(),
        nats_ca: absolute(&global.nats_ca),
        nats_cert: absolute(&global.nats_cert),
        nats_key: absolute(&global.nats_key),
        nats_tls_first: global.nats_tls_first,
        js_domain: global.js_domain.clone(),
        control_prefix: global.control_prefix.clone(),
        signer: global.signer.clone(),
        timeout_ms: global.timeout_ms,
        ..Context::default()
    })
}

fn ask_for_the_rest(context: &mut Context) -> Result<(), Failure> {
    let asked = |question: &str, value: &mut Option<String>| -> Result<(), Failure> {
        if value.is_none() {
            let answer = confirm::ask(question)?;
            *value = (!answer.is_empty()).then_some(answer);
        }
        Ok(())
    };
    asked(
        "NATS servers (nats://127.0.0.1:4222): ",
        &mut context.nats_url,
    )?;
    asked("Lattice (default): ", &mut context.lattice)?;
    let mut creds = None;
    if context.creds.is_none() {
        asked("Credentials file for NATS (none): ", &mut creds)?;
        context.creds = creds.map(PathBuf::from);
    }
    asked("JetStream domain (none): ", &mut context.js_domain)
}

fn default(args: &CtxName, environment: &mut Environment) -> Result<Report, Failure> {
    let contexts = Contexts::of(args.place.directory.as_deref(), environment)?;
    let name = chosen(args.name.as_deref(), &contexts, "default")?;
    contexts.set_default(&name)?;
    Ok(Report::new(format!("{name} is the default context\n")).with("name", name))
}

fn edit(args: &CtxEdit, environment: &mut Environment) -> Result<Report, Failure> {
    let contexts = Contexts::of(args.place.directory.as_deref(), environment)?;
    let name = chosen(args.name.as_deref(), &contexts, "edit")?;
    let path = contexts.path(&name)?;
    if !path.is_file() {
        // Says which there are.
        contexts.load(&name)?;
    }
    let editor = args
        .editor
        .clone()
        .or_else(|| environment.text(environment::EDITOR))
        .unwrap_or_else(|| EDITOR_DEFAULT.to_owned());
    // `code --wait` is a program with an argument, as other programs take it too.
    let mut words = editor.split_ascii_whitespace();
    let program = words
        .next()
        .ok_or_else(|| Failure::usage("wash ctx edit: --editor names no program"))?;
    let status = Command::new(program)
        .args(words)
        .arg(&path)
        .status()
        .map_err(|error| {
            Failure::local(format!(
                "cannot run the editor {program}: {error}; name one with --editor or EDITOR"
            ))
        })?;
    if !status.success() {
        return Err(Failure::local(format!(
            "the editor {program} ended with {status}; the context is in {}",
            path.display()
        )));
    }
    contexts.load(&name)?;
    Ok(
        Report::new(format!("context {name} is in {}\n", path.display()))
            .with("name", name)
            .with("path", path),
    )
}

fn delete(
    args: &CtxName,
    global: &Global,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let contexts = Contexts::of(args.place.directory.as_deref(), environment)?;
    let name = chosen(args.name.as_deref(), &contexts, "del")?;
    if !contexts.path(&name)?.is_file() {
        contexts.load(&name)?;
    }
    confirm(
        &format!("delete the context {name}"),
        global.yes,
        Unattended::Refuse,
    )?;
    let was_default = contexts.delete(&name)?;
    let text = if was_default {
        format!("context {name} is gone; it was the default, and there is none now\n")
    } else {
        format!("context {name} is gone\n")
    };
    Ok(Report::new(text)
        .with("name", name)
        .with("was_default", was_default))
}

/// The context that is named, else the one that is chosen on the terminal.
fn chosen(name: Option<&str>, contexts: &Contexts, verb: &str) -> Result<String, Failure> {
    if let Some(name) = name {
        return Ok(name.to_owned());
    }
    let names = contexts.list()?;
    if !confirm::can_ask() {
        return Err(Failure::usage(format!(
            "wash ctx {verb}: name a context; there is no terminal to choose one at"
        )));
    }
    for (number, name) in names.iter().enumerate() {
        output::note(&format!("{}  {name}", number + 1));
    }
    let answer = confirm::ask("Which context? ")?;
    let by_number = answer
        .parse::<usize>()
        .ok()
        .and_then(|number| names.get(number.checked_sub(1)?));
    Ok(by_number.cloned().unwrap_or(answer))
}
