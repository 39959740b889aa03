//! The transport over real sockets: one pooled HTTP/1.1 client with rustls, blocking, without redirects (a token goes
//! where it was sent and nowhere else).

use crate::call::{Answer, Broken, BrokenBy, Call, Transport};
use crate::client::{Link, Retries};
use crate::frame::MESSAGE_BYTES_MAX;
use crate::routes::{LEDGER_HEADER, Method, Operation, PROTOCOL, PROTOCOL_HEADER, SCOPES_HEADER};
use crate::target::HttpTarget;
use burnlog_log::{Error, ErrorKind, Result};
use rustls::InvalidMessage;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

/// How a client connects.
#[derive(Clone)]
pub struct HttpOptions {
    /// The token. Never printed.
    pub token: Option<String>,
    /// A file of certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a token may travel unencrypted to another machine.
    pub allow_plain: bool,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long a server may take to answer; for compacting and checking, twelve times as long.
    pub answer_timeout: Duration,
    /// How often what only asks is asked.
    pub attempts: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            token: None,
            ca_file: None,
            allow_plain: false,
            connect_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(300),
            attempts: 5,
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = if self.token.is_some() { "set" } else { "none" };
        write!(f, "HttpOptions {{ token: {token}, ca_file: {:?} }}", self.ca_file)
    }
}

/// Connections are given up before a server does it, which would look like a failed request.
const IDLE_MAX: Duration = Duration::from_secs(8);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Opens the ledger at a URL.
///
/// `Denied` without a token that the server takes and where the certificate is not trusted, `NotFound` where the server
/// has no such ledger, `Invalid` where no burnlog server answers, `Unavailable` where nobody does.
pub fn open(target: &HttpTarget, options: &HttpOptions) -> Result<Arc<Link>> {
    if target.is_exposed() && options.token.is_some() && !options.allow_plain {
        let message = "the token would travel readable over http:// to another machine; use https://, or set \
                       RELAYBURN_HTTP_PLAIN=allow where the network is private";
        return Err(Error::new(ErrorKind::Invalid, "open ledger", message).at(target.url()));
    }
    let transport = UreqTransport::new(target, options)?;
    let retries = Retries { attempts: options.attempts, pause: Arc::new(pause) };
    Link::open(Box::new(transport), target.url(), retries).map(Arc::new)
}

/// Sleeps before a retry: as long as the server asked for, else 50 ms doubled each time, and of that a part by chance.
fn pause(attempt: u32, asked: Option<u64>) {
    let longest =
        asked.map_or(Duration::from_millis(50 << attempt.min(6)), Duration::from_secs).min(PAUSE_MAX);
    let mut bytes = [0; 4];
    // Without chance the pause is the whole one, which is a pause as well.
    let chance = if getrandom::fill(&mut bytes).is_ok() { u32::from_le_bytes(bytes) } else { u32::MAX };
    std::thread::sleep(longest / 2 + (longest / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX)));
}

/// Carries requests over sockets.
struct UreqTransport {
    agent: ureq::Agent,
    target: HttpTarget,
    authorization: Option<String>,
    slow_timeout: Duration,
}

impl UreqTransport {
    fn new(target: &HttpTarget, options: &HttpOptions) -> Result<Self> {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("burnlog/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .max_idle_age(IDLE_MAX)
            .timeout_connect(Some(options.connect_timeout))
            .timeout_recv_response(Some(options.answer_timeout));
        if target.base().starts_with("https://") {
            config = config.tls_config(tls(options)?);
        }
        let authorization = match options.token.as_deref().map(str::trim) {
            None | Some("") => None,
            Some(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Some(format!("Bearer {token}"))
            }
            Some(_) => {
                let message =
                    "the token holds characters that no token has; make one with burnlog token create";
                return Err(Error::new(ErrorKind::Invalid, "open ledger", message).at(target.url()));
            }
        };
        let slow_timeout = options.answer_timeout * 12;
        Ok(Self { agent: config.build().new_agent(), target: target.clone(), authorization, slow_timeout })
    }

    fn exchange(&self, call: &Call) -> std::result::Result<Answer, ureq::Error> {
        let url = format!("{}{}", self.target.base(), call.path(self.target.ledger()));
        let ledger = call.ledger.map(|id| id.to_string());
        let headers = [
            (PROTOCOL_HEADER, Some(PROTOCOL)),
            (LEDGER_HEADER, ledger.as_deref()),
            ("authorization", self.authorization.as_deref()),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let is_slow = matches!(call.operation, Operation::Compact | Operation::Check);
        let timeout = is_slow.then_some(self.slow_timeout);
        let response = match call.route().method {
            Method::Get => {
                let mut request = self.agent.get(&url);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                match timeout {
                    Some(_) => request.config().timeout_recv_response(timeout).build().call(),
                    None => request.call(),
                }
            }
            Method::Post => {
                let mut request =
                    self.agent.post(&url).header("content-type", call.route().request.media_type());
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                match timeout {
                    Some(_) => request.config().timeout_recv_response(timeout).build().send(&call.body[..]),
                    None => request.send(&call.body[..]),
                }
            }
        };
        read(response?)
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> std::result::Result<Answer, ureq::Error> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (protocol, ledger) = (header(PROTOCOL_HEADER), header(LEDGER_HEADER));
    let scopes = header(SCOPES_HEADER);
    let retry_after = header("retry-after").and_then(|text| text.parse().ok());
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(2 * MESSAGE_BYTES_MAX).read_to_vec()?;
    Ok(Answer { status, protocol, ledger, scopes, retry_after, body })
}

impl Transport for UreqTransport {
    fn send(&self, call: &Call) -> std::result::Result<Answer, Broken> {
        self.exchange(call).map_err(|error| broken(&error))
    }
}

fn broken(error: &ureq::Error) -> Broken {
    let tls = match error {
        ureq::Error::Tls(text) => Some((*text).to_owned()),
        ureq::Error::Rustls(error) => Some(error.to_string()),
        ureq::Error::Io(error) => error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .filter(|error| !matches!(error, rustls::Error::InvalidMessage(_)))
            .map(ToString::to_string),
        _ => None,
    };
    let is_plain = matches!(error, ureq::Error::Io(error) if error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|error| matches!(error, rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType))));
    if is_plain {
        let message =
            "the answer is not TLS; if the server speaks plain HTTP, write http:// in its URL".to_owned();
        return Broken { why: BrokenBy::Tls, message };
    }
    match tls {
        Some(why) => Broken {
            why: BrokenBy::Tls,
            message: format!(
                "the server's certificate is not trusted: {why}; set RELAYBURN_HTTP_CA_FILE to the certificate \
                 (PEM) of the authority that signed it"
            ),
        },
        None => Broken { why: BrokenBy::Link, message: format!("no answer: {error}; try again later") },
    }
}

/// The configuration of TLS. No process-wide default is touched.
fn tls(options: &HttpOptions) -> Result<TlsConfig> {
    let roots = match &options.ca_file {
        Some(path) => roots_of(path)?,
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(RootCerts::from(roots))
        .build())
}

fn denied(message: &str) -> Error {
    Error::new(ErrorKind::Denied, "open ledger", message.to_owned())
}

/// The certificates in a file.
fn roots_of(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let text = std::fs::read(path).map_err(|error| {
        denied("the file of RELAYBURN_HTTP_CA_FILE cannot be read").at(path.display()).caused_by(error)
    })?;
    let certificate = |item: PemItem<'static>| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    };
    let roots: Vec<_> = ureq::tls::parse_pem(&text).flatten().filter_map(certificate).collect();
    if roots.is_empty() {
        return Err(
            denied("the file of RELAYBURN_HTTP_CA_FILE holds no certificate (PEM)").at(path.display())
        );
    }
    Ok(roots)
}

/// The certificates that the system trusts.
fn system_roots() -> Result<Vec<Certificate<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> = found.certs.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if roots.is_empty() {
        return Err(denied("this system names no certificate authorities; set RELAYBURN_HTTP_CA_FILE"));
    }
    Ok(roots)
}
