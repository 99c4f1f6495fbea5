//! What went wrong on the way to a server, as a code of `wasi:http`.

use std::error::Error;
use std::io::{self, ErrorKind};

use trellis_protocol::limits::HEAD_BYTES_MAX;
use trellis_provider_sdk::{OutgoingError, OutgoingErrorCode as Code};

use crate::target::Target;

/// No TCP connection.
pub(crate) fn of_connect(error: &io::Error, target: &Target) -> OutgoingError {
    let code = match error.kind() {
        ErrorKind::ConnectionRefused => Code::ConnectionRefused,
        ErrorKind::TimedOut => Code::ConnectionTimeout,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Code::DestinationIpUnroutable,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Code::ConnectionTerminated,
        _ => Code::DestinationUnavailable,
    };
    OutgoingError::new(code, format!("`{target}` cannot be connected to: {error}"))
}

/// No TLS on the connection.
pub(crate) fn of_tls(error: &io::Error, target: &Target) -> OutgoingError {
    let text = format!("no TLS with `{target}`: {error}");
    match cause::<rustls::Error>(error) {
        Some(cause) => of_rustls(cause, text),
        None => OutgoingError::new(Code::TlsProtocolError, text),
    }
}

fn of_rustls(error: &rustls::Error, text: String) -> OutgoingError {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            OutgoingError::new(Code::TlsCertificateError, text)
        }
        rustls::Error::AlertReceived(alert) => {
            OutgoingError::new(Code::TlsAlertReceived, format!("{alert:?}"))
                .with_number(u8::from(*alert).into())
        }
        _ => OutgoingError::new(Code::TlsProtocolError, text),
    }
}

/// No response on a connection.
pub(crate) fn of_exchange(error: &hyper::Error, target: &Target) -> OutgoingError {
    let text = format!("no response of `{target}`: {}", chain(error));
    if let Some(cause) = cause::<rustls::Error>(error) {
        return of_rustls(cause, text);
    }
    if error.is_parse_too_large() {
        return OutgoingError::new(Code::HttpResponseHeaderSectionSize, text)
            .with_number(HEAD_BYTES_MAX as u64);
    }
    let code = if error.is_incomplete_message() {
        Code::HttpResponseIncomplete
    } else if error.is_parse() || error.is_user() {
        Code::HttpProtocolError
    } else if error.is_closed() || error.is_canceled() || cause::<io::Error>(error).is_some() {
        Code::ConnectionTerminated
    } else if error.is_timeout() {
        Code::ConnectionReadTimeout
    } else {
        Code::HttpProtocolError
    };
    OutgoingError::new(code, text)
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The cause of a type, an I/O error's inner one included.
fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // Its `source` passes over the error that it wraps.
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
