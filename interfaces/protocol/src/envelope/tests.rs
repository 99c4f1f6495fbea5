//! Envelopes that hold, and every way in which one does not.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

/// A host's seed that is written down here and used nowhere else.
fn fixed_key() -> SigningKey {
    SigningKey::from_seed(FIXED_SEED).unwrap()
}

const FIXED_SEED: &str = "SNAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H2D5U";

fn address(recipient: &str) -> Address<'_> {
    Address {
        recipient,
        recipient_incarnation: 2,
        sender_incarnation: 1,
        sequence: 3,
        sent_ms: 4,
    }
}

fn sealed(key: &SigningKey) -> Vec<u8> {
    seal(key, &address("NR"), b"\x0a\x91\x05").unwrap()
}

#[test]
fn an_opened_envelope_says_what_was_sealed() {
    let key = SigningKey::generate(KeyKind::Host);
    let opened = open(&Bytes::from(sealed(&key))).unwrap();
    assert_eq!(&opened.sender, key.public());
    assert_eq!(opened.recipient, "NR");
    assert_eq!(
        (opened.sender_incarnation, opened.recipient_incarnation),
        (1, 2)
    );
    assert_eq!((opened.sequence, opened.sent_ms), (3, 4));
    assert_eq!(&opened.frame[..], b"\x0a\x91\x05");
}

#[test]
fn the_bytes_of_an_envelope_are_these() {
    let key = fixed_key();
    let bytes = sealed(&key);
    assert_eq!(bytes[0], 1);
    let body = [
        b"\x97\xd9\x38",
        key.public().as_str().as_bytes(),
        b"\xa2NR\x01\x02\x03\x04\xc4\x03\x0a\x91\x05",
    ]
    .concat();
    assert_eq!(&bytes[65..], &body[..]);
    let signature: [u8; 64] = bytes[1..65].try_into().unwrap();
    let signed = [b"trellis envelope 1\0", &body[..]].concat();
    key.public().verify_bytes(&signed, &signature).unwrap();
}

#[test]
fn no_changed_bit_passes() {
    let key = SigningKey::generate(KeyKind::Host);
    let bytes = sealed(&key);
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        assert!(open(&Bytes::from(changed)).is_err(), "byte {position}");
    }
    for end in 0..bytes.len() {
        assert!(open(&Bytes::copy_from_slice(&bytes[..end])).is_err());
    }
}

#[test]
fn a_stranger_cannot_put_another_name_on_its_envelope() {
    let (honest, stranger) = (
        SigningKey::generate(KeyKind::Host),
        SigningKey::generate(KeyKind::Host),
    );
    let mut forged = sealed(&stranger);
    // The sender's text stands behind version, signature, and two markers.
    forged[68..68 + 56].copy_from_slice(honest.public().as_str().as_bytes());
    assert!(matches!(
        open(&Bytes::from(forged)),
        Err(EnvelopeError::Signature(_))
    ));
}

#[test]
fn a_key_that_is_no_hosts_is_refused() {
    let account = SigningKey::generate(KeyKind::Account);
    assert!(matches!(
        open(&Bytes::from(sealed(&account))),
        Err(EnvelopeError::Sender(_))
    ));
}

#[test]
fn an_unknown_version_is_refused_with_its_own_code() {
    let key = SigningKey::generate(KeyKind::Host);
    let mut bytes = sealed(&key);
    for version in [0, 2, 255] {
        bytes[0] = version;
        let error = open(&Bytes::from(bytes.clone())).unwrap_err();
        assert_eq!(error, EnvelopeError::UnknownVersion { version });
        assert_eq!(error.code(), RefusalCode::UnsupportedVersion);
    }
}

#[test]
fn the_largest_frame_fits_and_one_byte_more_does_not() {
    let key = SigningKey::generate(KeyKind::Host);
    let address = Address {
        recipient: key.public().as_str(),
        recipient_incarnation: u64::MAX,
        sender_incarnation: u64::MAX,
        sequence: u64::MAX,
        sent_ms: u64::MAX,
    };
    let envelope = seal(&key, &address, &vec![0; FRAME_BYTES_MAX]).unwrap();
    assert!(envelope.len() <= ENVELOPE_BYTES_MAX);
    assert_eq!(
        open(&Bytes::from(envelope)).unwrap().frame.len(),
        FRAME_BYTES_MAX
    );
    assert!(seal(&key, &address, &vec![0; FRAME_BYTES_MAX + 1]).is_err());
    assert!(matches!(
        open(&Bytes::from(vec![1; ENVELOPE_BYTES_MAX + 1])),
        Err(EnvelopeError::Length { .. })
    ));
}

#[test]
fn the_signature_of_another_sort_of_message_does_not_serve() {
    let key = SigningKey::generate(KeyKind::Host);
    let mut bytes = sealed(&key);
    let other = key.sign_bytes(&[b"trellis beat 1\0", &bytes[65..]].concat());
    bytes[1..65].copy_from_slice(&other);
    assert!(open(&Bytes::from(bytes)).is_err());
}
