//! From a request to an answer: who asks, for which ledger, with which body, under which limits. What it does to the
//! ledger is `burnlog_http::serve`'s.

use crate::answers::{not_taken, respond};
use crate::body::{self, Memory, NotTaken, Taken};
use crate::config::{LARGE_BYTES, Limits};
use crate::header::limit_header;
use crate::hosted::Hosted;
use crate::metrics::Metrics;
use crate::openapi::{OWN_PATHS, openapi};
use crate::origin::is_from_here;
use crate::query::{given_twice, query};
use crate::tokens::{Access, Tokens};
use crate::work::{Desk, work};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method as HttpMethod, Request, Response};
use axum::middleware;
use axum::routing::{MethodFilter, get, on};
use burnlog_http::{
    Answer, Asked, BEHIND_HEADER, Content, LEDGER_HEADER, Method, Operation, PAGE_MAX, PROTOCOL,
    PROTOCOL_HEADER, Question, ROUTES, Refusal, Rights, Scope, answer_of, is_ledger_name, refuse,
};
use burnlog_log::{Error, ErrorKind, LedgerId};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Everything that requests share.
pub(crate) struct Server {
    pub(crate) ledgers: BTreeMap<String, Arc<Hosted>>,
    pub(crate) tokens: Tokens,
    pub(crate) limits: Limits,
    pub(crate) memory: Memory,
    /// Places for large messages that are worked on.
    pub(crate) large: Arc<Semaphore>,
    pub(crate) desk: Desk,
    pub(crate) metrics: Metrics,
    /// Whether it listens on this machine alone: the condition for serving without tokens.
    pub(crate) loopback_only: bool,
    /// Random, so that request ids of two runs differ.
    pub(crate) run: u32,
    pub(crate) requests: AtomicU64,
}

/// The header that names a request in the log.
const REQUEST_HEADER: &str = "burnlog-request";

/// Makes the router of the table of routes.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let filter = match route.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
        };
        let operation = route.operation;
        let handle = move |State(server): State<Arc<Server>>, path: RawPathParams, request: Request<Body>| async move {
            server.handle(operation, &path, request).await
        };
        router = router.route(route.path, on(filter, handle));
    }
    for (path, _, _) in OWN_PATHS {
        let handle = move |State(server): State<Arc<Server>>, headers: HeaderMap| async move {
            server.own(path, &headers).await
        };
        router = router.route(path, get(handle));
    }
    router
        .fallback(|| async {
            // What was asked for may be anything: it is not repeated.
            let error = Error::new(ErrorKind::NotFound, "find route", "this server has nothing there");
            respond(refuse(None, &error), Content::Nothing, None)
        })
        .method_not_allowed_fallback(|method: HttpMethod| async move {
            let message = format!("{method} is not for this path; see /v1/openapi.json");
            let error = Error::new(ErrorKind::Invalid, "find route", message);
            respond(answer_of(None, 405, &Refusal::of(&error)), Content::Nothing, None)
        })
        .layer(middleware::from_fn(limit_header))
        .with_state(server)
}

/// A request that has been let in.
struct Admitted {
    ledger: Arc<Hosted>,
    rights: Rights,
    token: String,
}

/// A request that is not let in: the answer, and the id of its token where that is known.
struct NotAdmitted {
    answer: Box<Answer>,
    token: String,
}

/// An answer with what was found out on the way.
struct Outcome {
    answer: Answer,
    behind: bool,
    memory: Option<tokio::sync::OwnedSemaphorePermit>,
    message_bytes: u64,
    /// What the store said, for the log: the answer tells less of it.
    failure: Option<String>,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self { answer, behind: false, memory: None, message_bytes: 0, failure: None }
    }
}

fn denied(status: u16, message: &str, token: String) -> NotAdmitted {
    let error = Error::new(ErrorKind::Denied, "authorize", message.to_owned());
    NotAdmitted { answer: Box::new(answer_of(None, status, &Refusal::of(&error))), token }
}

impl Server {
    async fn handle(
        self: Arc<Self>,
        operation: Operation,
        path: &RawPathParams,
        request: Request<Body>,
    ) -> Response<Body> {
        let start = Instant::now();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}-{number}", self.run);
        let part =
            |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
        let name = part("ledger").unwrap_or_default();
        let mut rights = None;
        let (outcome, token) = match self.admit(operation, &name, request.headers()) {
            Ok(admitted) => {
                rights = Some(admitted.rights);
                let token = admitted.token.clone();
                (Arc::clone(&self).answer(operation, admitted, part("writer"), request).await, token)
            }
            Err(NotAdmitted { answer, token }) => {
                body::drain(&mut request.into_body(), &self.limits).await;
                ((*answer).into(), token)
            }
        };
        let Outcome { answer, behind, memory, message_bytes, failure } = outcome;
        let (status, took) = (answer.status, start.elapsed());
        if matches!(status, 429 | 503) {
            self.metrics.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        self.metrics.answered(operation, status, took, (message_bytes, answer.body.len() as u64));
        // A name that is none of ours may be anything.
        let ledger = if self.ledgers.contains_key(&name) { name.as_str() } else { "" };
        tracing::info!(
            request = id,
            operation = operation.name(),
            ledger,
            token,
            status,
            micros = took.as_micros() as u64,
            bytes_in = message_bytes,
            bytes_out = answer.body.len() as u64,
            failure,
            "answered"
        );
        let content = operation.route().answer;
        let scopes = rights.map(Rights::text);
        let mut response = respond(Answer { scopes, ..answer }, content, memory);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_HEADER, id);
        }
        if behind {
            response.headers_mut().insert(BEHIND_HEADER, HeaderValue::from_static("true"));
        }
        response
    }

    /// Finds out who asks and whether they may.
    fn admit(&self, operation: Operation, name: &str, headers: &HeaderMap) -> Result<Admitted, NotAdmitted> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(other) = header(PROTOCOL_HEADER).filter(|version| *version != PROTOCOL) {
            let other: String = other.chars().take(16).collect();
            let message = format!("the client speaks protocol {other:?}, this server {PROTOCOL}");
            let error = Error::new(ErrorKind::Unsupported, "authorize", message);
            let answer = Box::new(answer_of(None, 400, &Refusal::of(&error)));
            return Err(NotAdmitted { answer, token: String::new() });
        }
        let (rights, token, only) = self.who(operation, headers)?;
        if only.as_deref().is_some_and(|only| only != name) {
            return Err(denied(403, "this token is for another ledger", token));
        }
        let found = if is_ledger_name(name) { self.ledgers.get(name) } else { None };
        let Some(ledger) = found else {
            let message = "this server has no ledger of that name";
            let error = Error::new(ErrorKind::NotFound, "find ledger", message);
            return Err(NotAdmitted { answer: Box::new(refuse(None, &error)), token });
        };
        let asked = Asked {
            operation,
            writer: None,
            parameters: Vec::new(),
            message: Bytes::new(),
            ledger: header(LEDGER_HEADER).and_then(|text| LedgerId::parse(text.as_bytes())),
        };
        // Before the body is read: whoever may not, is not listened to.
        match burnlog_http::admit(&ledger.ledger, rights, &asked) {
            Ok(()) => Ok(Admitted { ledger: Arc::clone(ledger), rights, token }),
            Err(error) => {
                let answer = refuse(Some(ledger.ledger.location().id), &error);
                Err(NotAdmitted { answer: Box::new(answer), token })
            }
        }
    }

    /// Returns rights, the id of the token, and the one ledger that it is for.
    fn who(
        &self,
        operation: Operation,
        headers: &HeaderMap,
    ) -> Result<(Rights, String, Option<String>), NotAdmitted> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let access = self.tokens.access(header(AUTHORIZATION.as_str())).map_err(|error| {
            tracing::warn!(%error, "nobody is let in");
            denied(503, "the server cannot read its tokens; see its log", String::new())
        })?;
        let unknown = |token: String| {
            self.metrics.unknown_tokens.fetch_add(1, Ordering::Relaxed);
            Err(denied(401, "no token, or none that this server knows; set RELAYBURN_HTTP_TOKEN", token))
        };
        match access {
            Access::Granted { id, rights, ledger } => Ok((rights, id, ledger)),
            Access::Open if self.loopback_only && is_from_here(operation.route().method, headers) => {
                Ok((Rights::ALL, "none".to_owned(), None))
            }
            Access::Revoked { id } => unknown(id),
            Access::Open | Access::Unknown => unknown(String::new()),
        }
    }

    async fn answer(
        self: Arc<Self>,
        operation: Operation,
        admitted: Admitted,
        writer: Option<String>,
        request: Request<Body>,
    ) -> Outcome {
        let Admitted { ledger, rights, .. } = admitted;
        let id = ledger.ledger.location().id;
        let header = request.headers().get(LEDGER_HEADER).and_then(|value| value.to_str().ok());
        let expected = header.and_then(|text| LedgerId::parse(text.as_bytes()));
        let parameters = match query(request.uri().query().unwrap_or_default()) {
            Ok(parameters) => parameters,
            Err(error) => return refuse(Some(id), &error).into(),
        };
        if let Some(name) = given_twice(&parameters) {
            let message = format!("the parameter {name:?} is given more than once");
            let error = Error::new(ErrorKind::Invalid, operation.name(), message);
            return answer_of(Some(id), 400, &Refusal::of(&error)).into();
        }
        let mut asked = Asked { operation, writer, parameters, message: Bytes::new(), ledger: expected };
        let taken = match operation.route().request {
            Content::Frame(kind) => {
                let mut body = request.into_body();
                let bytes = answer_bytes(&asked);
                let taken = body::take(&mut body, kind, bytes, &self.memory, &self.limits).await;
                if taken.is_err() {
                    body::drain(&mut body, &self.limits).await;
                }
                taken
            }
            _ => Ok(Taken { message: Bytes::new(), memory: None }),
        };
        let Taken { message, mut memory } = match taken {
            Ok(taken) => taken,
            Err(why) => return not_taken(id, why).into(),
        };
        asked.message = message;
        let behind = self.wait_for_folds(&ledger, &asked).await;
        if memory.is_none() {
            memory = self.memory.take(answer_bytes(&asked), &self.limits).await;
            if memory.is_none() {
                return not_taken(id, NotTaken::Full).into();
            }
        }
        let message_bytes = asked.message.len() as u64;
        let is_small = asked.message.len() <= LARGE_BYTES;
        // Nobody closes it; and without a place the work is done all the same.
        let place = if is_small { None } else { Arc::clone(&self.large).acquire_owned().await.ok() };
        // From here on it is finished, also for a client that went away; so the memory goes with it.
        let worked = self.desk.work(is_small, move || {
            let (answer, failure) = work(&ledger, rights, &asked);
            if operation == Operation::Append && answer.status == 200 {
                ledger.folds.wake();
            }
            drop(place);
            (answer, failure, memory)
        });
        let (answer, failure, memory) = worked.await.unwrap_or_else(|| {
            let message = "the request ended in a defect of the server";
            let error = Error::new(ErrorKind::Corrupt, operation.name(), message);
            (answer_of(Some(id), 500, &Refusal::of(&error)), None, None)
        });
        Outcome { answer, behind, memory, message_bytes, failure }
    }

    /// Waits until the folds have reached what the ledger held when a query came; returns whether they have not.
    async fn wait_for_folds(&self, ledger: &Hosted, asked: &Asked) -> bool {
        let waits = match asked.operation {
            Operation::Ask => {
                matches!(Question::decode(asked.message.clone()), Ok(Question::State { fresh: true }))
            }
            Operation::Search
            | Operation::Sessions
            | Operation::Turns
            | Operation::Usage
            | Operation::Content
            | Operation::Relationships => true,
            _ => false,
        };
        waits && !ledger.folds.reached(ledger.folds.wake_for(), self.limits.fold_timeout).await
    }

    async fn own(self: Arc<Self>, path: &'static str, headers: &HeaderMap) -> Response<Body> {
        let text = |status: u16, media_type: &'static str, body: String| {
            let answer = Answer {
                status,
                protocol: Some(PROTOCOL.to_owned()),
                body: body.into_bytes(),
                ..Answer::default()
            };
            let mut response = respond(answer, Content::Nothing, None);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            response
        };
        match path {
            "/healthz" => text(200, "text/plain", "ok\n".to_owned()),
            "/readyz" => {
                let server = Arc::clone(&self);
                let ready = tokio::task::spawn_blocking(move || server.is_ready()).await.unwrap_or(false);
                if ready {
                    text(200, "text/plain", "ready\n".to_owned())
                } else {
                    text(503, "text/plain", "not ready; see the log\n".to_owned())
                }
            }
            "/metrics" => match self.may_see_metrics(headers) {
                Ok(()) => text(200, "text/plain; version=0.0.4", self.metrics_text()),
                Err(refused) => respond(*refused.answer, Content::Nothing, None),
            },
            _ => text(200, "application/json", openapi().to_string()),
        }
    }

    /// Whether every ledger answers and its folds did not fail.
    fn is_ready(&self) -> bool {
        let answers = |hosted: &Arc<Hosted>| match hosted.ledger.backend().feeds(None, None, 1) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, "not ready");
                false
            }
        };
        self.ledgers.values().all(|hosted| answers(hosted) && !hosted.folds.is_broken())
    }

    /// Counters are for whoever may read all ledgers; without tokens for this machine.
    fn may_see_metrics(&self, headers: &HeaderMap) -> Result<(), NotAdmitted> {
        let (rights, token, only) = self.who(Operation::Stat, headers)?;
        if rights.allow(Scope::Read) && only.is_none() {
            return Ok(());
        }
        Err(denied(403, "the counters take a token with the scope read, for all ledgers", token))
    }

    fn metrics_text(&self) -> String {
        let failed = self.ledgers.values().filter(|hosted| hosted.folds.is_broken()).count() as u64;
        self.metrics.text(&[
            ("burnlog_ledgers", "Ledgers that are served.", self.ledgers.len() as u64),
            ("burnlog_message_bytes", "Bytes of messages held now.", self.memory.taken()),
            ("burnlog_folds_failed", "Ledgers whose last fold failed.", failed),
        ])
    }
}

/// How many bytes an answer may have, about.
fn answer_bytes(asked: &Asked) -> u64 {
    let page = PAGE_MAX.bytes;
    match asked.operation {
        // Most reads of entries want a head.
        Operation::Entries => {
            let bytes = asked.parameter("bytes").and_then(|text| text.parse().ok());
            bytes.unwrap_or(page).min(page)
        }
        Operation::Ask | Operation::Feeds => page / 4,
        Operation::Append | Operation::Find | Operation::Stat | Operation::Erase | Operation::Compact => 0,
        _ => page,
    }
}
