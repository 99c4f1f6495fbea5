//! What a guest meets, and what becomes of its bodies, without a guest.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt, Full, StreamBody};
use trellis_protocol::{Refusal, RefusalCode};
use trellis_provider_sdk::http::{empty, full};
use trellis_provider_sdk::{Body, BodyError, OutgoingErrorCode};

use super::*;

fn never<T>(never: Infallible) -> T {
    match never {}
}

fn guest_body(content: &'static str) -> WasiBody {
    WasiBody::new(Full::new(Bytes::from_static(content.as_bytes())).map_err(never))
}

/// A body that has no end.
fn silent() -> Body {
    Body::new(StreamBody::new(futures::stream::pending()))
}

async fn permit(all: &Arc<Semaphore>) -> tokio::sync::OwnedSemaphorePermit {
    Arc::clone(all).acquire_owned().await.expect("it is open")
}

#[tokio::test]
async fn a_body_whose_guest_has_ended_is_broken_off_and_one_that_the_guest_finished_is_whole() {
    let gone = CancellationToken::new();
    let body = |gone: &CancellationToken| {
        RequestBody::new(guest_body("half"), gone.clone(), GuestFault::default())
    };
    let whole = body(&gone).collect().await.expect("it was finished");
    assert_eq!(whole.to_bytes(), "half");
    gone.cancel();
    let error = body(&gone).collect().await.err();
    assert!(matches!(error, Some(BodyError::Disconnected { .. })));
}

#[tokio::test]
async fn what_the_guest_did_wrong_with_its_body_is_kept_for_its_answer() {
    let fault = GuestFault::default();
    let broken = futures::stream::iter([Err(Error::HttpRequestBodySize(Some(3)))]);
    let body = WasiBody::new(StreamBody::new(broken));
    let body = RequestBody::new(body, CancellationToken::new(), fault.clone());
    assert!(body.collect().await.is_err());
    assert!(matches!(
        fault.take(),
        Some(Error::HttpRequestBodySize(Some(3)))
    ));
    assert!(fault.take().is_none());
}

#[tokio::test(start_paused = true)]
async fn silence_between_bytes_ends_a_response_and_gives_its_place_back_with_the_body() {
    let places = Arc::new(Semaphore::new(1));
    let idle = Duration::from_secs(3);
    let mut body = ResponseBody::new(silent(), idle, permit(&places).await);
    let begin = tokio::time::Instant::now();
    let frame = body.frame().await.expect("an error");
    assert!(matches!(frame, Err(Error::ConnectionReadTimeout)));
    assert_eq!(begin.elapsed(), idle);
    assert!(body.frame().await.is_none());
    assert_eq!(places.available_permits(), 0);
    drop(body);
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test]
async fn a_response_that_breaks_off_says_how() {
    type Case = (BodyError, fn(&Error) -> bool);
    let cases: [Case; 5] = [
        (BodyError::IdleTimeout, |e| {
            matches!(e, Error::ConnectionReadTimeout)
        }),
        (BodyError::TooLarge { limit_bytes: 5 }, |e| {
            matches!(e, Error::HttpResponseBodySize(Some(5)))
        }),
        (
            BodyError::Disconnected {
                reason: String::new(),
            },
            |e| matches!(e, Error::HttpResponseIncomplete),
        ),
        (Refusal::new(RefusalCode::OutcomeUnknown, "").into(), |e| {
            matches!(e, Error::HttpResponseIncomplete)
        }),
        (Refusal::new(RefusalCode::TooLarge, "").into(), |e| {
            matches!(e, Error::HttpResponseBodySize(None))
        }),
    ];
    for (error, fits) in cases {
        let places = Arc::new(Semaphore::new(1));
        let text = error.to_string();
        let body = Body::new(StreamBody::new(futures::stream::iter([Err(error)])));
        let mut body = ResponseBody::new(body, BODY_IDLE_MAX, permit(&places).await);
        let error = body.frame().await.expect("an error").expect_err("an error");
        assert!(fits(&error), "{text} became {error:?}");
    }
}

/// The name of an error, without what it carries.
fn name(error: &Error) -> String {
    let text = format!("{error:?}");
    text.chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect()
}

#[test]
fn each_code_of_a_provider_is_the_guests_code_of_the_same_name() {
    for code in OutgoingErrorCode::ALL {
        let error = OutgoingError::new(*code, "why").with_number(7);
        assert_eq!(name(&Fault::of_error(error).error), format!("{code:?}"));
    }
    let alert = OutgoingError::new(OutgoingErrorCode::TlsAlertReceived, "no").with_number(40);
    assert!(matches!(
        Fault::of_error(alert).error,
        Error::TlsAlertReceived { alert_id: Some(40), alert_message: Some(text) } if text == "no"
    ));
}

#[test]
fn a_refusal_within_the_lattice_is_told_by_what_the_guest_can_do_about_it() {
    for (code, expected) in [
        (RefusalCode::NoLink, "HttpRequestDenied"),
        (RefusalCode::NotGranted, "HttpRequestDenied"),
        (RefusalCode::NoRoute, "DestinationUnavailable"),
        (RefusalCode::Draining, "DestinationUnavailable"),
        (RefusalCode::Overloaded, "ConnectionLimitReached"),
        (RefusalCode::DeadlineExceeded, "HttpResponseTimeout"),
        (RefusalCode::OutcomeUnknown, "ConnectionTerminated"),
        (RefusalCode::ProviderFailed, "ConfigurationError"),
        (RefusalCode::UnknownOperation, "ConfigurationError"),
        (RefusalCode::TooDeep, "LoopDetected"),
        (RefusalCode::Internal, "InternalError"),
    ] {
        let fault = Fault::of_refusal(Refusal::new(code, "why"), Stage::Head);
        assert_eq!(name(&fault.error), expected, "{code}");
        assert!(fault.reason.contains("why"));
    }
}

fn request(uri: &str, fields: usize, value_bytes: usize) -> http::Request<WasiBody> {
    let mut request = http::Request::get(uri)
        .body(guest_body(""))
        .expect("a test asks for what can be asked for");
    for n in 0..fields {
        let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
        let value = http::HeaderValue::try_from("x".repeat(value_bytes)).expect("a value");
        request.headers_mut().insert(name, value);
    }
    request
}

#[test]
fn a_head_is_held_to_what_a_frame_can_carry_wherever_the_provider_runs() {
    let check = |request| check_head(&request).err().map(|fault| name(&fault.error));
    let uri = "https://a.example/";
    assert_eq!(check(request(uri, HTTP_FIELDS_MAX, 1)), None);
    let section = Some("HttpRequestHeaderSectionSize".to_owned());
    assert_eq!(check(request(uri, HTTP_FIELDS_MAX + 1, 1)), section);

    let others = uri.len() + METHOD_BYTES_MAX + "x-0".len() + 8;
    assert_eq!(check(request(uri, 1, HEAD_BYTES_MAX - others)), None);
    assert_eq!(check(request(uri, 1, HEAD_BYTES_MAX - others + 1)), section);

    let long = |bytes: usize| format!("{uri}{}", "x".repeat(bytes - uri.len()));
    assert_eq!(check(request(&long(URI_BYTES_MAX), 0, 0)), None);
    assert_eq!(
        check(request(&long(URI_BYTES_MAX + 1), 0, 0)),
        Some("HttpRequestUriTooLong".to_owned())
    );
}

#[tokio::test]
async fn a_body_without_a_byte_is_known_to_be_at_its_end_on_the_way() {
    let places = Arc::new(Semaphore::new(2));
    for (body, is_at_end) in [(empty(), true), (full("x"), false)] {
        let body = ResponseBody::new(body, BODY_IDLE_MAX, permit(&places).await);
        assert_eq!(http_body::Body::is_end_stream(&body), is_at_end);
    }
}
