//! TLS between client and server, and what they say when they do not trust each other.

use crate::place::{Given, Place};
use crate::raw::send;
use burnlog_http::HttpOptions;
use burnlog_log::ErrorKind;
use burnlog_server::TlsFiles;
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

#[test]
fn a_certificate_is_trusted_by_its_root_alone() {
    let tls = Some(TlsFiles { certificates: file("server.pem"), key: file("server.key") });
    let place = Place::new(Given { tls, ..Given::default() });
    let trusting =
        |root: &str| HttpOptions { ca_file: Some(file(root)), attempts: 1, ..HttpOptions::default() };
    let link = place.link("default", &trusting("authority.pem")).unwrap();
    assert!(link.url().starts_with("https://"));
    for options in [trusting("other.pem"), HttpOptions { attempts: 1, ..HttpOptions::default() }] {
        let error = place.link("default", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        assert!(error.message().contains("RELAYBURN_HTTP_CA_FILE"), "{error}");
    }
    let error = place.link("default", &trusting("no such file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    // Plain HTTP at the same address is no HTTP.
    assert_eq!(send(place.running.address(), b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 0);
}

#[test]
fn a_key_of_another_certificate_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = |certificates: &str, key: &str| burnlog_server::ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: Some(TlsFiles { certificates: file(certificates), key: file(key) }),
        tokens: folder.path().join("tokens.json"),
        ledgers: Vec::new(),
        limits: burnlog_server::Limits::default(),
    };
    for (certificates, key) in
        [("authority.pem", "server.key"), ("server.pem", "server.pem"), ("server.pem", "nothing")]
    {
        let Err(error) = burnlog_server::Running::start(config(certificates, key)) else {
            panic!("{certificates} {key}")
        };
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}
