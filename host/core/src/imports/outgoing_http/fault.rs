//! Which error code of `wasi:http` a guest meets.

use trellis_protocol::{Refusal, RefusalCode};
use trellis_provider_sdk::{BodyError, OutgoingError, OutgoingErrorCode as Code};
use wasmtime_wasi_http::Error;

/// How far an exchange had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no response yet.
    Head,
    /// The response's body is on its way.
    Body,
}

/// Why there is no response, for the guest and for the log.
#[derive(Debug)]
pub(super) struct Fault {
    /// What the guest is told.
    pub(super) error: Error,
    /// What the log is told.
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(error: Error, reason: impl Into<String>) -> Self {
        Self {
            error,
            reason: reason.into(),
        }
    }

    /// A call that was not carried out: what stood against it lies within the lattice.
    pub(super) fn of_refusal(refusal: Refusal, stage: Stage) -> Self {
        let reason = refusal.to_string();
        let error = match refusal.code {
            RefusalCode::NoLink | RefusalCode::NotGranted | RefusalCode::Unauthenticated => {
                Error::HttpRequestDenied
            }
            RefusalCode::NotHere
            | RefusalCode::NoRoute
            | RefusalCode::Draining
            | RefusalCode::StaleState
            | RefusalCode::CalleeUnavailable => Error::DestinationUnavailable,
            RefusalCode::Overloaded => Error::ConnectionLimitReached,
            RefusalCode::DeadlineExceeded => match stage {
                Stage::Head => Error::HttpResponseTimeout,
                Stage::Body => Error::ConnectionReadTimeout,
            },
            RefusalCode::Cancelled | RefusalCode::OutcomeUnknown => match stage {
                Stage::Head => Error::ConnectionTerminated,
                Stage::Body => Error::HttpResponseIncomplete,
            },
            RefusalCode::TooLarge => match stage {
                Stage::Head => Error::HttpRequestHeaderSectionSize(None),
                Stage::Body => Error::HttpResponseBodySize(None),
            },
            RefusalCode::TooDeep => Error::LoopDetected,
            // The link's configuration, or a target that is no provider for this.
            RefusalCode::ProviderFailed | RefusalCode::UnknownOperation => {
                Error::ConfigurationError
            }
            _ => Error::InternalError(Some(reason.clone())),
        };
        Self { error, reason }
    }

    /// The answer of a provider that got no response.
    pub(super) fn of_error(error: OutgoingError) -> Self {
        Self {
            reason: error.to_string(),
            error: error_of(error),
        }
    }

    /// A response's body that ended before its end.
    pub(super) fn of_body(error: BodyError) -> Self {
        let reason = error.to_string();
        let error = match error {
            BodyError::Refused(refusal) => return Self::of_refusal(refusal, Stage::Body),
            BodyError::IdleTimeout => Error::ConnectionReadTimeout,
            BodyError::TooLarge { limit_bytes } => Error::HttpResponseBodySize(Some(limit_bytes)),
            _ => Error::HttpResponseIncomplete,
        };
        Self { error, reason }
    }
}

fn error_of(error: OutgoingError) -> Error {
    let OutgoingError {
        code, number, text, ..
    } = error;
    let size = number.and_then(|number| u32::try_from(number).ok());
    let text = Some(text).filter(|text| !text.is_empty());
    match code {
        Code::DnsTimeout => Error::DnsTimeout,
        Code::DnsError => Error::DnsError {
            rcode: None,
            info_code: number.and_then(|number| u16::try_from(number).ok()),
        },
        Code::DestinationNotFound => Error::DestinationNotFound,
        Code::DestinationUnavailable => Error::DestinationUnavailable,
        Code::DestinationIpProhibited => Error::DestinationIpProhibited,
        Code::DestinationIpUnroutable => Error::DestinationIpUnroutable,
        Code::ConnectionRefused => Error::ConnectionRefused,
        Code::ConnectionTerminated => Error::ConnectionTerminated,
        Code::ConnectionTimeout => Error::ConnectionTimeout,
        Code::ConnectionReadTimeout => Error::ConnectionReadTimeout,
        Code::ConnectionWriteTimeout => Error::ConnectionWriteTimeout,
        Code::ConnectionLimitReached => Error::ConnectionLimitReached,
        Code::TlsProtocolError => Error::TlsProtocolError,
        Code::TlsCertificateError => Error::TlsCertificateError,
        Code::TlsAlertReceived => Error::TlsAlertReceived {
            alert_id: number.and_then(|number| u8::try_from(number).ok()),
            alert_message: text,
        },
        Code::HttpRequestDenied => Error::HttpRequestDenied,
        Code::HttpRequestLengthRequired => Error::HttpRequestLengthRequired,
        Code::HttpRequestBodySize => Error::HttpRequestBodySize(number),
        Code::HttpRequestMethodInvalid => Error::HttpRequestMethodInvalid,
        Code::HttpRequestUriInvalid => Error::HttpRequestUriInvalid,
        Code::HttpRequestUriTooLong => Error::HttpRequestUriTooLong,
        Code::HttpRequestHeaderSectionSize => Error::HttpRequestHeaderSectionSize(size),
        Code::HttpRequestHeaderSize => Error::HttpRequestHeaderSize {
            field_name: None,
            field_size: size,
        },
        Code::HttpRequestTrailerSectionSize => Error::HttpRequestTrailerSectionSize(size),
        Code::HttpRequestTrailerSize => Error::HttpRequestTrailerSize {
            field_name: None,
            field_size: size,
        },
        Code::HttpResponseIncomplete => Error::HttpResponseIncomplete,
        Code::HttpResponseHeaderSectionSize => Error::HttpResponseHeaderSectionSize(size),
        Code::HttpResponseHeaderSize => Error::HttpResponseHeaderSize {
            field_name: None,
            field_size: size,
        },
        Code::HttpResponseBodySize => Error::HttpResponseBodySize(number),
        Code::HttpResponseTrailerSectionSize => Error::HttpResponseTrailerSectionSize(size),
        Code::HttpResponseTrailerSize => Error::HttpResponseTrailerSize {
            field_name: None,
            field_size: size,
        },
        Code::HttpResponseTransferCoding => Error::HttpResponseTransferCoding(text),
        Code::HttpResponseContentCoding => Error::HttpResponseContentCoding(text),
        Code::HttpResponseTimeout => Error::HttpResponseTimeout,
        Code::HttpUpgradeFailed => Error::HttpUpgradeFailed,
        Code::HttpProtocolError => Error::HttpProtocolError,
        Code::LoopDetected => Error::LoopDetected,
        Code::ConfigurationError => Error::ConfigurationError,
        _ => Error::InternalError(text),
    }
}
