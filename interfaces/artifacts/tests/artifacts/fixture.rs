//! What the tests share: components, archives, options with short times, and who listens to progress.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, Once};
use std::time::Duration;

use trellis_artifacts::media_type;
use trellis_artifacts::{
    Archive, ArchiveBuilder, ArtifactOptions, Artifacts, Digest, Progress, Reference, Timeouts,
};
use trellis_claims::{
    KeyKind, NewProviderToken, Platform, SigningKey, TrustRoots, UnixTime, Validity,
};
use trellis_test_backends::faulty::Image;

/// Silence that is too long, in these tests.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// A component of one custom section with so much in it.
pub(crate) fn component(bytes: usize) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    let mut section = b"\x04test".to_vec();
    section.extend((0..bytes).map(|index| (index % 251) as u8));
    component.push(0);
    let mut length = section.len();
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        component.push(byte | if length > 0 { 0x80 } else { 0 });
        if length == 0 {
            break;
        }
    }
    component.extend(section);
    component
}

/// Short times, and everything below one directory.
pub(crate) fn options(cache: &Path) -> ArtifactOptions {
    static CRYPTOGRAPHY: Once = Once::new();
    CRYPTOGRAPHY.call_once(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .unwrap();
    });
    ArtifactOptions {
        cache_dir: Some(cache.to_owned()),
        timeouts: Timeouts {
            connect: SILENCE,
            head: SILENCE,
            stall: SILENCE,
            backoff: Duration::from_millis(10),
        },
        ..ArtifactOptions::default()
    }
}

/// Artifacts that speak plain HTTP to one registry.
pub(crate) fn open(cache: &Path, registry: &str) -> Artifacts {
    let options = ArtifactOptions {
        insecure_registries: vec![registry.to_owned()],
        ..options(cache)
    };
    Artifacts::open(options, None).unwrap()
}

pub(crate) fn reference(text: impl AsRef<str>) -> Reference {
    text.as_ref().parse().unwrap()
}

/// What a registry would have of some content.
pub(crate) fn image(content: Vec<u8>, media_type: &str) -> Image {
    let digest = Digest::of(&content);
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/x","digest":"{digest}","size":2}},"layers":[{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}]}}"#,
        content.len()
    );
    Image {
        manifest_digest: Digest::of(manifest.as_bytes()).to_string(),
        manifest: manifest.into_bytes(),
        content,
    }
}

pub(crate) fn component_image(bytes: usize) -> Image {
    image(component(bytes), media_type::WASM)
}

/// Remembers what it was told.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Vec<Progress>>);

impl Told {
    pub(crate) fn hear(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress);
    }

    pub(crate) fn all(&self) -> Vec<Progress> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn retries(&self) -> usize {
        self.all()
            .iter()
            .filter(|progress| matches!(progress, Progress::Retrying { .. }))
            .count()
    }
}

/// The files below a directory, with their lengths.
pub(crate) fn files_below(directory: &Path) -> BTreeMap<String, u64> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            let name = entry.path().display().to_string();
            files.insert(name, entry.metadata().unwrap().len());
        }
    }
    files
}

/// A provider that somebody signed, for this machine.
pub(crate) struct Provider {
    pub(crate) account: SigningKey,
    pub(crate) archive: Vec<u8>,
    pub(crate) program: Vec<u8>,
}

pub(crate) fn token() -> NewProviderToken {
    NewProviderToken {
        subject: SigningKey::generate(KeyKind::Provider).public().clone(),
        name: "testing".to_owned(),
        version: "0.1.0".to_owned(),
        revision: 1,
        vendor: "Example".to_owned(),
        serves: ["test:serves/it"]
            .iter()
            .map(|c| c.parse().unwrap())
            .collect(),
        calls: std::iter::empty().collect(),
        targets: BTreeMap::new(),
        config_schema: None,
        validity: Validity::starting(UnixTime::now(), Duration::from_secs(3600)),
        account_token: None,
    }
}

impl Provider {
    pub(crate) fn new() -> Self {
        Self::for_platform(Platform::here())
    }

    pub(crate) fn for_platform(platform: Platform) -> Self {
        let program = std::fs::read("/bin/true").unwrap();
        Self::of(platform, program)
    }

    pub(crate) fn of(platform: Platform, program: Vec<u8>) -> Self {
        let account = SigningKey::generate(KeyKind::Account);
        let mut archive = Vec::new();
        ArchiveBuilder::new(token())
            .executable_bytes(platform, program.clone())
            .sign(&account, UnixTime::now(), &mut archive)
            .unwrap();
        Archive::open(std::io::Cursor::new(&archive)).unwrap();
        Self {
            account,
            archive,
            program,
        }
    }

    pub(crate) fn trust(&self) -> TrustRoots {
        let mut trust = TrustRoots::default();
        trust.insert(self.account.public().clone()).unwrap();
        trust
    }
}
