//! Where a request comes from, as far as that can be told: the only guard of a server without tokens.

use axum::http::HeaderMap;
use axum::http::header::HOST;
use burnlog_http::{Method, PROTOCOL_HEADER};

/// Without tokens a request must come from this machine, and from no web page that somebody has open on it: a page can
/// send requests here, but neither under our name nor with our header.
pub(crate) fn is_from_here(method: Method, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_loopback = name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    (is_loopback || name == "localhost") && (method == Method::Get || headers.contains_key(PROTOCOL_HEADER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_web_page_is_not_from_here() {
        let headers = |host: &str, ours: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_str(host).unwrap());
            if ours {
                headers.insert(PROTOCOL_HEADER, HeaderValue::from_static("1"));
            }
            headers
        };
        for host in ["127.0.0.1:1", "localhost", "[::1]:80"] {
            assert!(is_from_here(Method::Get, &headers(host, false)), "{host}");
            assert!(is_from_here(Method::Post, &headers(host, true)), "{host}");
            assert!(!is_from_here(Method::Post, &headers(host, false)), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1"] {
            assert!(!is_from_here(Method::Get, &headers(host, true)), "{host}");
        }
    }
}
