//! Anything that the OpenAPI document allows, and much that it does not: an answer comes, and it is never a defect.

use crate::place::{Given, Place};
use crate::raw::{request, send};
use burnlog_http::{Content, Method, ROUTES, frame};
use proptest::prelude::*;
use std::sync::LazyLock;

static PLACE: LazyLock<Place> = LazyLock::new(|| Place::new(Given::default()));

/// Percent-encodes everything.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02x}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_request_gets_an_answer_that_is_no_defect(
        route in 0..ROUTES.len(),
        ledger in prop_oneof![3 => Just("default".to_owned()), 1 => "[a-z./%\\x00]{0,12}"],
        writer in prop_oneof![Just(format!("ed25519:{}", "07".repeat(32))), any::<String>()],
        values in prop::collection::vec((0usize..16, prop_oneof![any::<String>(), "[0-9]{0,22}", "[0-9a-f]{0,70}"]), 0..5),
        message: Vec<u8>,
        is_framed: bool,
        header in "[ -~]{0,40}",
    ) {
        let route = &ROUTES[route];
        let ledger = if ledger == "default" { ledger } else { escaped(&ledger) };
        let mut path = route.path.replace("{ledger}", &ledger).replace("{writer}", &escaped(&writer));
        for (at, (name, value)) in values.iter().enumerate() {
            let name = route.parameters.get(*name).map_or("unheard-of", |(name, _)| *name);
            path.push_str(&format!("{}{name}={}", if at == 0 { '?' } else { '&' }, escaped(value)));
        }
        let (method, body) = match (route.method, route.request) {
            (Method::Get, _) => ("GET", Vec::new()),
            (Method::Post, Content::Frame(kind)) if is_framed => ("POST", frame(kind, &message)),
            (Method::Post, _) => ("POST", message),
        };
        let raw = send(PLACE.running.address(), &request(method, &path, &[("x-any", &header)], &body));
        prop_assert!(
            matches!(raw.status, 200 | 400 | 404 | 422 | 424 | 409 | 413 | 501),
            "{method} {path}: {} {}", raw.status, String::from_utf8_lossy(&raw.body)
        );
        if raw.status != 200 && raw.head.contains("burnlog-protocol") {
            prop_assert!(!raw.kind().is_empty(), "a reason is given");
        }
    }
}
