//! A transport that is a function call: the client's half and the server's half in one process.

use burnlog_http::{
    Answer, Asked, Broken, Call, Content, HttpBackend, Link, MESSAGE_BYTES_MAX, Retries, Rights, Transport,
    refuse, serve, unframe,
};
use burnlog_log::{Backend, Ledger};
use std::sync::Arc;

/// Hands every request to the server's half.
pub(crate) struct Direct {
    pub(crate) ledger: Ledger,
    pub(crate) rights: Rights,
}

impl Direct {
    /// Does what the server does with a request.
    pub(crate) fn answer(&self, call: &Call) -> Answer {
        let message = match call.route().request {
            Content::Frame(kind) => unframe(kind, MESSAGE_BYTES_MAX, &call.body),
            _ => Ok(bytes::Bytes::new()),
        };
        match message {
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
    let direct = Direct { ledger: Ledger::from_arc(backend), rights };
    HttpBackend::new(Arc::new(Link::open(Box::new(direct), "http://test".to_owned(), once()).unwrap()))
}
