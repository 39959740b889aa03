//! A transport that is a function call: the client's half and the server's half in one process.

use burnlog_http::{
    Answer, Asked, Broken, Call, Content, FrameKind, HttpBackend, Link, MESSAGE_BYTES_MAX, Operation,
    Question, Retries, Rights, Transport, frame, refuse, reply, serve, success, unframe,
};
use burnlog_log::{Backend, Ledger};
use burnlog_projections::MemoryProjections;
use std::sync::Arc;

/// Hands every request to the server's half.
pub(crate) struct Direct {
    pub(crate) ledger: Ledger,
    pub(crate) rights: Rights,
    pub(crate) rows: MemoryProjections,
}

impl Direct {
    /// Does what the server does with a request.
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        let message = match call.route().request {
            Content::Frame(kind) => unframe(kind, MESSAGE_BYTES_MAX, &call.body),
            _ => Ok(bytes::Bytes::new()),
        };
        match message {
            Ok(message) if call.operation == Operation::Ask => {
                let id = self.ledger.location().id;
                match Question::decode(message).and_then(|question| reply(&self.rows, &question)) {
                    Ok(answer) => success(id, frame(FrameKind::Reply, &answer)),
                    Err(error) => refuse(Some(id), &error),
                }
            }
            Ok(message) => {
                let (operation, ledger) = (call.operation, call.ledger);
                let (writer, parameters) = (call.writer.clone(), call.parameters.clone());
                serve(&self.ledger, self.rights, &Asked { operation, writer, parameters, message, ledger })
            }
            Err(error) => refuse(Some(self.ledger.location().id), &error),
        }
    }
}

impl Transport for Direct {
    fn send(&self, call: &Call) -> Result<Answer, Broken> {
        Ok(self.answer(call))
    }
}

/// No second attempts and no pauses.
pub(crate) fn once() -> Retries {
    Retries { attempts: 1, pause: Arc::new(|_, _| {}) }
}

/// A client in front of a backend.
pub(crate) fn client(backend: Arc<dyn Backend>, rights: Rights) -> HttpBackend {
    let direct = Direct { ledger: Ledger::from_arc(backend), rights, rows: MemoryProjections::new() };
    HttpBackend::new(Arc::new(Link::open(Box::new(direct), "http://test".to_owned(), once()).unwrap()))
}
