//! From an answer of the protocol to one of HTTP, and the answers that the server gives by itself.

use crate::body::{self, NotTaken};
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use burnlog_http::{
    Answer, Content, LEDGER_HEADER, PROTOCOL_HEADER, Refusal, SCOPES_HEADER, answer_of, refuse,
};
use burnlog_log::{Error, ErrorKind, LedgerId};

/// Says why a body was not taken.
pub(crate) fn not_taken(id: LedgerId, why: NotTaken) -> Answer {
    match why {
        NotTaken::Wrong(error) => refuse(Some(id), &error),
        NotTaken::Slow => {
            let error = Error::new(ErrorKind::Unavailable, "take body", "the body came too slowly");
            answer_of(Some(id), 408, &Refusal::of(&error))
        }
        NotTaken::Full => {
            let message = "too much is under way; try again";
            let error = Error::new(ErrorKind::Unavailable, "take body", message);
            answer_of(Some(id), 429, &Refusal::of(&error))
        }
    }
}

/// Makes the response; its body holds `memory` until it was sent.
pub(crate) fn respond(
    answer: Answer,
    content: Content,
    memory: Option<tokio::sync::OwnedSemaphorePermit>,
) -> Response<Body> {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let length = answer.body.len();
    let mut response = Response::new(body::answer(answer.body, memory));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = if status.is_success() { content.media_type() } else { "application/json" };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cache-control", HeaderValue::from_static("no-store"));
    let texts =
        [(PROTOCOL_HEADER, answer.protocol), (LEDGER_HEADER, answer.ledger), (SCOPES_HEADER, answer.scopes)];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = answer.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert("www-authenticate", HeaderValue::from_static("Bearer"));
    }
    response
}
