//! The limit of a request's header, to the byte.

use crate::answers::respond;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::middleware::Next;
use burnlog_http::{Content, Refusal, answer_of};
use burnlog_log::{Error, ErrorKind};

/// The most bytes of a request's header, the line with the path included. The buffer of a connection holds more, so that all
/// that is longer is refused here, and nothing else.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Refuses a request whose header is too long, by the bytes that it takes at least.
pub(crate) async fn limit_header(request: Request<Body>, next: Next) -> Response<Body> {
    let uri = request.uri();
    let path = uri.path_and_query().map_or(1, |path| path.as_str().len());
    let line = request.method().as_str().len() + path + " HTTP/1.1\r\n".len() + 1;
    let fields = request.headers().iter();
    let fields: usize = fields.map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len()).sum();
    if line + fields + "\r\n".len() <= HEADER_BYTES_MAX {
        return next.run(request).await;
    }
    let message = format!("the header has more than {HEADER_BYTES_MAX} bytes");
    let error = Error::new(ErrorKind::Invalid, "read header", message);
    respond(answer_of(None, 431, &Refusal::of(&error)), Content::Nothing, None)
}
