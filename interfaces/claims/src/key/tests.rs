//! Keys: their encodings, their kinds, and the traps of the encoding.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

/// Seed and public key of one pair, as the reference implementation of nkeys writes them.
const SEED: &str = "SAAPN4W3EG6KCJGUQTKTJ5GSB5NHK5CHAJL4DBGFUM3HHROI4XUEP4OBK4";
const PUBLIC: &str = "ACODERUVFFAWZQDSS6SBIACUA5O6SXF7HJ3YTYXBALHZP3P7R4BUO4J2";

/// A public key whose 32 bytes are given, checksum included.
fn public_key_of(kind: KeyKind, bytes: [u8; 32]) -> PublicKey {
    let mut raw = vec![(kind.prefix() as u8 - b'A') << 3];
    raw.extend(bytes);
    let mut crc = 0_u16;
    for byte in &raw {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
        }
    }
    raw.extend(crc.to_le_bytes());
    data_encoding::BASE32_NOPAD.encode(&raw).parse().unwrap()
}

#[test]
fn a_known_seed_gives_its_known_public_key() {
    let key = SigningKey::from_seed(SEED).unwrap();
    assert_eq!(key.kind(), KeyKind::Account);
    assert_eq!(key.public().as_str(), PUBLIC);
    assert_eq!(key.seed().as_str(), SEED);
}

#[test]
fn every_kind_survives_its_seed_and_shows_its_prefix() {
    for kind in KeyKind::ALL {
        let key = SigningKey::generate(kind);
        let again = SigningKey::from_seed_of(kind, &key.seed()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().kind(), kind);
        assert!(key.public().as_str().starts_with(kind.prefix()));
        assert_eq!(key.seed().chars().nth(1), Some(kind.prefix()));
        assert_eq!(key.public().as_str().parse(), Ok(key.public().clone()));
        assert_eq!(kind.name().parse(), Ok(kind));
    }
}

#[test]
fn two_generated_keys_differ() {
    let first = SigningKey::generate(KeyKind::Host);
    let second = SigningKey::generate(KeyKind::Host);
    assert_ne!(first.public(), second.public());
}

#[test]
fn a_signature_holds_for_its_key_and_message_alone() {
    let key = SigningKey::generate(KeyKind::Host);
    let signature = key.sign_bytes(b"beat");
    assert_eq!(key.public().verify_bytes(b"beat", &signature), Ok(()));
    assert_eq!(
        key.public().verify_bytes(b"beet", &signature),
        Err(KeyError::BadSignature)
    );
    let other = SigningKey::generate(KeyKind::Host);
    assert_eq!(
        other.public().verify_bytes(b"beat", &signature),
        Err(KeyError::BadSignature)
    );
}

#[test]
fn a_changed_signature_is_refused_at_each_byte() {
    let key = SigningKey::generate(KeyKind::Host);
    let signature = key.sign_bytes(b"beat");
    for at in 0..SIGNATURE_BYTES {
        let mut changed = signature;
        changed[at] ^= 1;
        assert_eq!(
            key.public().verify_bytes(b"beat", &changed),
            Err(KeyError::BadSignature)
        );
    }
}

#[test]
fn the_signature_is_the_one_that_nkeys_makes() {
    let key = SigningKey::from_seed(SEED).unwrap();
    let reference = KeyPair::from_seed(SEED).unwrap();
    assert_eq!(
        key.sign_bytes(b"message").to_vec(),
        reference.sign(b"message").unwrap()
    );
}

#[test]
fn a_curve_seed_is_not_taken_for_a_signing_key() {
    let curve = nkeys::XKey::new();
    assert_eq!(
        SigningKey::from_seed(&curve.seed().unwrap()).unwrap_err(),
        KeyError::UnknownKind
    );
    assert_eq!(
        curve.public_key().parse::<PublicKey>(),
        Err(KeyError::UnknownKind)
    );
}

#[test]
fn a_cluster_key_is_not_taken_for_an_operators() {
    let cluster = KeyPair::new_cluster();
    assert_eq!(
        SigningKey::from_seed(&cluster.seed().unwrap()).unwrap_err(),
        KeyError::UnknownKind
    );
    assert_eq!(
        cluster.public_key().parse::<PublicKey>(),
        Err(KeyError::UnknownKind)
    );
}

#[test]
fn another_kind_than_the_wanted_one_is_refused() {
    let wrong = KeyError::WrongKind {
        expected: KeyKind::Module,
        found: KeyKind::Account,
    };
    assert_eq!(
        PublicKey::parse(PUBLIC, KeyKind::Module),
        Err(wrong.clone())
    );
    assert_eq!(
        SigningKey::from_seed_of(KeyKind::Module, SEED).unwrap_err(),
        wrong
    );
    assert_eq!(
        wrong.to_string(),
        "expected the key of a module, got that of an account"
    );
}

#[test]
fn a_seed_in_place_of_a_public_key_is_named_and_not_repeated() {
    let error = SEED.parse::<PublicKey>().unwrap_err();
    assert_eq!(error, KeyError::SeedInsteadOfPublicKey);
    assert!(!error.to_string().contains(SEED));
}

#[test]
fn cut_or_changed_keys_are_refused_without_a_panic() {
    for end in 0..PUBLIC.len() {
        assert!(PUBLIC[..end].parse::<PublicKey>().is_err());
    }
    for end in 0..SEED.len() {
        assert!(SigningKey::from_seed(&SEED[..end]).is_err());
    }
    for at in 0..SEED.len() {
        for letter in ["A", "7", "a", "=", "\0", "\u{7f}"] {
            let mut seed = SEED.to_owned();
            seed.replace_range(at..=at, letter);
            assert!(seed == SEED || SigningKey::from_seed(&seed).is_err());
            if at < PUBLIC.len() {
                let mut public = PUBLIC.to_owned();
                public.replace_range(at..=at, letter);
                assert!(public == PUBLIC || public.parse::<PublicKey>().is_err());
            }
        }
    }
    // Right length in bytes, but not in characters.
    assert!("é".repeat(28).parse::<PublicKey>().is_err());
    assert!(SigningKey::from_seed(&"é".repeat(29)).is_err());
}

#[test]
fn a_weak_public_key_verifies_nothing() {
    // The neutral point: with it, a signature of the neutral point and zero would hold for every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let weak = public_key_of(KeyKind::Account, neutral);
    let mut forged = [0; SIGNATURE_BYTES];
    forged[0] = 1;
    assert_eq!(weak.check_strength(), Err(KeyError::Weak));
    assert_eq!(weak.verify_bytes(b"anything", &forged), Err(KeyError::Weak));
}

#[test]
fn debug_hides_the_seed() {
    let key = SigningKey::from_seed(SEED).unwrap();
    let shown = format!("{key:?}");
    assert!(shown.contains(PUBLIC));
    assert!(!shown.contains(&SEED[4..20]));
}

#[test]
fn a_public_key_is_checked_when_it_is_deserialised() {
    let key: PublicKey = serde_json::from_str(&format!("\"{PUBLIC}\"")).unwrap();
    assert_eq!(
        serde_json::to_string(&key).unwrap(),
        format!("\"{PUBLIC}\"")
    );
    assert!(serde_json::from_str::<PublicKey>("\"ACODE\"").is_err());
}
