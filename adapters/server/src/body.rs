//! Bodies under limits: a request's body is unpacked as it comes and counts against the memory of all requests from the
//! moment its length is known; an answer's body counts until it was sent.

use crate::config::Limits;
use axum::body::Body;
use burnlog_http::{FrameKind, FrameReader, MESSAGE_BYTES_MAX};
use burnlog_log::{Error, ErrorKind};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Bytes for one permit.
const UNIT_BYTES: u64 = 1024;

/// The memory that all messages share.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    units: Arc<Semaphore>,
    units_max: u32,
}

impl Memory {
    pub(crate) fn new(bytes: u64) -> Self {
        let units_max = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        Self { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// Takes memory; `None` when the others do not give it back in time.
    pub(crate) async fn take(&self, bytes: u64, limits: &Limits) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).clamp(1, self.units_max);
        let taken = Arc::clone(&self.units).acquire_many_owned(units);
        timeout(limits.admission_timeout, taken).await.ok()?.ok()
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        (u64::from(self.units_max) - self.units.available_permits() as u64) * UNIT_BYTES
    }
}

/// Why a body was not taken.
pub(crate) enum NotTaken {
    /// It is wrong, or too long.
    Wrong(Error),
    /// It came too slowly.
    Slow,
    /// There is no memory for it now.
    Full,
}

/// A message with the memory that it takes.
pub(crate) struct Taken {
    pub(crate) message: Bytes,
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

/// The most bytes that are read of a body that nobody wants.
const DRAINED_BYTES_MAX: usize = 16 << 20;

/// Reads a body that was refused, within bounds: a client that is still sending would not see the answer otherwise.
pub(crate) async fn drain(body: &mut Body, limits: &Limits) {
    let deadline = Instant::now() + limits.piece_timeout;
    let mut bytes = 0;
    while bytes < DRAINED_BYTES_MAX {
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(piece))) => bytes += piece.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// Reads the frame in a request's body. The memory taken is twice that of the message, or that of the answer if it may be
/// more.
pub(crate) async fn take(
    body: &mut Body,
    kind: FrameKind,
    answer_bytes: u64,
    memory: &Memory,
    limits: &Limits,
) -> Result<Taken, NotTaken> {
    let deadline = Instant::now() + limits.body_timeout;
    let mut reader = FrameReader::new(kind, MESSAGE_BYTES_MAX);
    let mut held = None;
    let mut early: Vec<Bytes> = Vec::new();
    loop {
        let wait = limits.piece_timeout.min(deadline.saturating_duration_since(Instant::now()));
        let piece = match timeout(wait, body.frame()).await {
            Err(_) => return Err(NotTaken::Slow),
            Ok(None) => break,
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => {
                let message = "the body ended before its end";
                let error = Error::new(ErrorKind::Invalid, "read body", message).caused_by(error);
                return Err(NotTaken::Wrong(error));
            }
        };
        let Ok(piece) = piece.into_data() else { continue };
        if held.is_none() {
            // The header is looked at before a byte behind it is unpacked.
            early.push(piece);
            let front: Vec<u8> = early.iter().flatten().copied().take(burnlog_http::HEADER_BYTES).collect();
            let Some(header) = reader.announce(&front).map_err(NotTaken::Wrong)? else { continue };
            // Twice: beside the message stands the window that it is unpacked with, and later the lines that a backend makes
            // of it. The largest message has the memory to itself.
            let bytes = header.message_bytes.saturating_mul(2).max(answer_bytes);
            held = Some(memory.take(bytes, limits).await.ok_or(NotTaken::Full)?);
            for piece in early.drain(..) {
                reader.push(&piece).map_err(NotTaken::Wrong)?;
            }
        } else {
            reader.push(&piece).map_err(NotTaken::Wrong)?;
        }
    }
    let message = reader.finish().map_err(NotTaken::Wrong)?;
    Ok(Taken { message, memory: held })
}

/// Makes an answer's body that gives its memory back when it was sent, or when nobody wants it any more.
pub(crate) fn answer(bytes: Vec<u8>, memory: Option<OwnedSemaphorePermit>) -> Body {
    Body::new(Full::new(Bytes::from(bytes)).map_frame(move |frame| {
        // The closure lives as long as the body, and the memory with it.
        let _held = &memory;
        frame
    }))
}
