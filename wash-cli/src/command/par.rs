//! `wash par`: archives of providers, with an executable for each platform and a signed manifest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trellis_artifacts::archive::{Archive, ArchiveBuilder, ArchiveError};
use trellis_claims::provider::{NewProviderToken, Platform, ProviderClaims};
use trellis_claims::{KeyKind, PublicKey, SigningKey, UnixTime, Validity};

use crate::cli::{Par, ParBinary, ParCreate, ParInsert, ParSigning};
use crate::command::claims::{account, read_account_token};
use crate::command::inspect;
use crate::environment::Environment;
use crate::exit::{Failure, chain};
use crate::keys::{self, KeySource, KeyStore, check_name};
use crate::output::{self, Report};
use crate::progress::Progress;
use crate::settings::Settings;

/// Suffix of archives.
const SUFFIX: &str = "par";

/// Largest schema file that is read, in bytes. What claims can hold is less, and said by whoever signs.
const SCHEMA_BYTES_MAX: u64 = 1024 * 1024;

pub(super) async fn run(
    command: Par,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    match command {
        Par::Create(args) => create(*args, environment),
        Par::Insert(args) => insert(&args, environment),
        Par::Inspect(args) => inspect::run(args, settings, environment).await,
    }
}

/// The manifest of an archive as it is.
pub(super) fn token_of(archive: &Path) -> Result<Report, Failure> {
    let archive = open(archive)?;
    let token = archive.token();
    Ok(Report::new(format!("{token}\n"))
        .with("token", token)
        .with("kind", "provider")
        .with("issuer", &archive.claims_unverified().issuer)
        .with("subject", &archive.claims_unverified().subject))
}

fn open(path: &Path) -> Result<Archive<File>, Failure> {
    let file = File::open(path)
        .map_err(|error| Failure::local(format!("cannot read {}: {error}", path.display())))?;
    Archive::open(file).map_err(|error| {
        Failure::local(format!("cannot use {}: {}", path.display(), chain(&error)))
    })
}

fn create(args: ParCreate, environment: &mut Environment) -> Result<Report, Failure> {
    check_name("a provider", &args.name).map_err(Failure::usage)?;
    let platform = platform(&args.binary)?;
    let config_schema = match &args.schema {
        Some(path) => Some(read_schema(path)?),
        None => None,
    };
    let hand = Hand::of(&args.signing, environment)?;
    let subject = match hand.subject {
        Some(subject) => subject,
        None => {
            let store = KeyStore::of(environment)?;
            store.provider(&args.name)?.public().clone()
        }
    };
    let destination = args.destination.unwrap_or_else(|| {
        let stem = args.binary.binary.file_stem().unwrap_or_default();
        PathBuf::from(format!("{}.{SUFFIX}", stem.to_string_lossy()))
    });
    let builder = ArchiveBuilder::new(NewProviderToken {
        subject,
        name: args.name,
        version: args.version,
        revision: args.revision,
        vendor: args.vendor,
        serves: args.cap.into_iter().collect(),
        calls: args.calls.into_iter().collect(),
        targets: Default::default(),
        config_schema,
        validity: hand.validity,
        account_token: hand.account_token,
    })
    .executable(platform, &args.binary.binary);
    write(builder, &hand.issuer, &destination)
}

fn insert(args: &ParInsert, environment: &mut Environment) -> Result<Report, Failure> {
    let platform = platform(&args.binary)?;
    let mut archive = open(&args.archive)?;
    let hand = Hand::of(&args.signing, environment)?;
    let before = archive.claims_unverified().issuer.clone();
    if before != *hand.issuer.public() {
        output::note(&format!(
            "note: {before} signed the archive; {} signs it now",
            hand.issuer.public()
        ));
    }
    let failed = |error: ArchiveError| {
        Failure::local(format!(
            "cannot use {}: {}",
            args.archive.display(),
            chain(&error)
        ))
    };
    let mut builder = ArchiveBuilder::from_archive(&mut archive, hand.validity).map_err(failed)?;
    let token = builder.token_mut();
    if let Some(subject) = hand.subject {
        token.subject = subject;
    }
    // That of another account would vouch for nobody here.
    if hand.account_token.is_some() || before != *hand.issuer.public() {
        token.account_token = hand.account_token;
    }
    let builder = builder.executable(platform, &args.binary.binary);
    write(builder, &hand.issuer, &args.archive)
}

/// Who signs an archive, for whom, and for how long.
struct Hand {
    issuer: SigningKey,
    subject: Option<PublicKey>,
    validity: Validity,
    account_token: Option<String>,
}

impl Hand {
    fn of(args: &ParSigning, environment: &mut Environment) -> Result<Self, Failure> {
        let issuer = account(args.issuer.as_deref(), environment)?;
        let subject = match &args.subject {
            Some(text) => Some(keys::public_key(
                &KeySource::parse(text)?,
                KeyKind::Provider,
                environment,
            )?),
            None => None,
        };
        let account_token = match &args.account_token {
            Some(path) => Some(read_account_token(path)?),
            None => None,
        };
        let lifetime = Duration::from_secs(u64::from(args.expires_in_days) * 24 * 60 * 60);
        Ok(Self {
            issuer,
            subject,
            validity: Validity::starting(UnixTime::now(), lifetime),
            account_token,
        })
    }
}

fn platform(binary: &ParBinary) -> Result<Platform, Failure> {
    if !binary.binary.is_file() {
        return Err(Failure::local(format!(
            "cannot find the executable {}; build it, and name it with --binary",
            binary.binary.display()
        )));
    }
    match &binary.arch {
        Some(text) => text
            .parse()
            .map_err(|error| Failure::usage(format!("--arch: {error}"))),
        None => Ok(Platform::here()),
    }
}

fn read_schema(path: &Path) -> Result<String, Failure> {
    let failed = |fault: String| {
        Failure::local(format!("cannot use the schema {}: {fault}", path.display()))
    };
    let bytes = fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > SCHEMA_BYTES_MAX {
        return Err(failed(format!(
            "it has {bytes} bytes, at most {SCHEMA_BYTES_MAX} are accepted"
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let schema: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| failed(format!("it is no JSON: {error}")))?;
    // Blanks are nothing that anybody signs.
    Ok(schema.to_string())
}

/// Signs and writes the archive, whole or not at all.
fn write(
    builder: ArchiveBuilder,
    issuer: &SigningKey,
    destination: &Path,
) -> Result<Report, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::local(format!(
            "cannot write {}: {}",
            destination.display(),
            chain(error)
        ))
    };
    let progress = Progress::start(format!("writing {}", destination.display()));
    let directory = match destination.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(&error))?;
    let claims = builder
        .sign(issuer, UnixTime::now(), &mut io::BufWriter::new(&mut file))
        .map_err(|error| failed(&error))?;
    readable(file.as_file()).map_err(|error| failed(&error))?;
    file.persist(destination)
        .map_err(|error| failed(&error.error))?;
    drop(progress);
    let path = fs::canonicalize(destination).map_err(|error| failed(&error))?;
    Ok(report(&path, &claims))
}

/// An archive is no secret, and a host may run as another user.
fn readable(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

fn report(path: &Path, claims: &ProviderClaims) -> Report {
    let mut rows = vec![("Archive".to_owned(), path.display().to_string())];
    rows.extend(inspect::provider::rows_of(claims, false));
    Report::new(output::pairs(rows))
        .with("path", path)
        .with("claims", inspect::provider::to_json(claims))
}
