//! Who may do what.

use crate::place::{Given, Place, with_token};
use crate::raw::{request, send};
use burnlog_http::{HttpBackend, HttpOptions, HttpQueries, Scope};
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Backend, Body, ErrorKind, Limit, NewEvent, Timestamp};
use burnlog_server::{Limits, NewToken, Running, ServerConfig, Tokens};
use std::os::unix::fs::PermissionsExt;

fn new(scopes: &[Scope], ledger: Option<&str>) -> NewToken {
    NewToken {
        name: None,
        scopes: scopes.to_vec(),
        ledger: ledger.map(str::to_owned),
        created_at: Timestamp::from_micros(1),
    }
}

#[test]
fn scopes_say_what_a_token_may() {
    let place = Place::new(Given::default());
    let tokens = Tokens::new(place.tokens());
    let token = |scopes: &[Scope]| tokens.create(new(scopes, None)).unwrap().0;
    let backend = |token: &str| HttpBackend::new(place.link("default", &with_token(token)).unwrap());
    let (append, read, admin) = (
        backend(&token(&[Scope::Append])),
        backend(&token(&[Scope::Read])),
        backend(&token(&[Scope::Admin])),
    );
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));

    assert_eq!(feed.append(&read, &events).unwrap_err().kind(), ErrorKind::Denied);
    feed.append(&append, &events).unwrap();
    feed.append(&append, &Event::lines("b", 1)).unwrap();
    let addresses = [events[0].address];
    let denied = |result: burnlog_log::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Denied);
    denied(append.get(&addresses, Limit::default()).map(drop));
    for backend in [&append, &read] {
        denied(backend.erase(&addresses));
        denied(backend.compact().map(drop));
        denied(backend.check(&mut |_| {}));
    }
    // Whoever appends sees heads and addresses, and not what was said.
    let page = append.read(&feed.id(), 0, Limit::default()).unwrap();
    assert_eq!(page.state.unwrap().head, *feed.heads.last().unwrap());
    assert_eq!(page.entries[0].address, events[0].address);
    assert!(matches!(page.entries[0].body, Body::Damaged { .. }), "never as erased");
    let page = read.read(&feed.id(), 0, Limit::default()).unwrap();
    assert_eq!(page.entries[0].body, events[0].body());
    admin.erase(&addresses).unwrap();
    admin.compact().unwrap();
    admin.check(&mut |damage| panic!("{damage:?}")).unwrap();
    let link = place.link("default", &with_token(&token(&[Scope::Append]))).unwrap();
    assert_eq!(HttpQueries::open(link).unwrap_err().kind(), ErrorKind::Denied);
}

/// Otherwise whoever may append could make an event unreadable for all before its payload comes.
#[test]
fn an_event_without_its_payload_takes_the_scope_admin() {
    let place = Place::new(Given::default());
    let tokens = Tokens::new(place.tokens());
    let (feed, event) = (TestFeed::new(1), Event::line("a", 0, b"1"));
    let prepared = feed.prepare(std::slice::from_ref(&event));
    for (scope, expected) in [(Scope::Append, Some(ErrorKind::Denied)), (Scope::Admin, None)] {
        let token = tokens.create(new(&[scope], None)).unwrap().0;
        let backend = HttpBackend::new(place.link("default", &with_token(&token)).unwrap());
        let events = [NewEvent { payload: None, ..event.new_event() }];
        let appended = backend.append(&burnlog_log::Append {
            expected_size: 0,
            expected_root: prepared.expected_root,
            entries: &prepared.entries,
            events: &events,
            head: &prepared.head,
            frontier: prepared.frontier.peaks(),
        });
        assert_eq!(appended.err().map(|error| error.kind()), expected);
    }
}

#[test]
fn a_token_is_for_its_ledger_until_it_is_revoked() {
    let place = Place::new(Given::default());
    let tokens = Tokens::new(place.tokens());
    let (token, record) = tokens.create(new(&[Scope::Read], Some("default"))).unwrap();
    let kind = |ledger: &str, options: &HttpOptions| {
        place.link(ledger, options).map(drop).map_err(|error| {
            assert!(!format!("{error} {options:?}").contains(&token), "a token is never printed");
            error.kind()
        })
    };
    assert_eq!(kind("default", &with_token(&token)), Ok(()));
    // The same answer whether there is such a ledger or not.
    assert_eq!(kind("other", &with_token(&token)), Err(ErrorKind::Denied));
    assert_eq!(kind("nobody", &with_token(&token)), Err(ErrorKind::Denied));
    assert_eq!(kind("default", &HttpOptions::default()), Err(ErrorKind::Denied));
    assert_eq!(kind("default", &with_token("burnlog_0")), Err(ErrorKind::Denied));
    assert_eq!(kind("default", &with_token(&record.sha256)), Err(ErrorKind::Denied));
    let revoked = tokens.revoke(&record.id[..6], Timestamp::from_micros(2)).unwrap();
    assert_eq!(revoked.revoked_at, Some(Timestamp::from_micros(2)));
    assert_eq!(kind("default", &with_token(&token)), Err(ErrorKind::Denied));
    // A revoked token is no absent one: nothing is open again.
    assert_eq!(kind("default", &HttpOptions::default()), Err(ErrorKind::Denied));
    assert_eq!(tokens.revoke("", Timestamp::from_micros(3)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn counters_are_for_those_who_may_read_everything() {
    let place = Place::new(Given::default());
    let tokens = Tokens::new(place.tokens());
    let status = |token: &str| {
        let bearer = format!("Bearer {token}");
        send(place.running.address(), &request("GET", "/metrics", &[("authorization", &bearer)], b"")).status
    };
    let token = |scope, ledger| tokens.create(new(&[scope], ledger)).unwrap().0;
    assert_eq!(status(&token(Scope::Read, None)), 200);
    assert_eq!(status(&token(Scope::Read, Some("default"))), 403);
    assert_eq!(status(&token(Scope::Append, None)), 403);
    assert_eq!(status("x"), 401);
}

#[test]
fn the_file_holds_hashes_for_its_owner_alone_and_a_damaged_one_lets_nobody_in() {
    let place = Place::new(Given::default());
    let tokens = Tokens::new(place.tokens());
    let (token, _) = tokens.create(new(&[Scope::Admin], None)).unwrap();
    let text = std::fs::read_to_string(place.tokens()).unwrap();
    assert!(!text.contains(&token) && !text.contains(token.strip_prefix("burnlog_").unwrap()));
    assert_eq!(std::fs::metadata(place.tokens()).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(place.tokens(), "{").unwrap();
    assert!(place.link("default", &with_token(&token)).is_err());
    assert_eq!(tokens.list().unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn without_a_token_no_other_machine_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let config = || ServerConfig {
        listen: "0.0.0.0:0".parse().unwrap(),
        tls: None,
        tokens: folder.path().join("tokens.json"),
        ledgers: Vec::new(),
        limits: Limits::default(),
    };
    let Err(error) = Running::start(config()) else { panic!("it was started") };
    assert_eq!(error.kind(), ErrorKind::Denied);
    let tokens = Tokens::new(folder.path().join("tokens.json"));
    let (_, record) = tokens.create(new(&[Scope::Read], None)).unwrap();
    Running::start(config()).unwrap().stop();
    tokens.revoke(&record.id, Timestamp::from_micros(2)).unwrap();
    assert!(Running::start(config()).is_err());
}
