//! Listing feeds: order, pages, what moved.

use super::Fixture;
use super::build::{Event, TestFeed};
use crate::{Backend, BatchHead, Token, WriterId};

fn list(backend: &dyn Backend, since: Option<&Token>, limit: usize) -> (Vec<BatchHead>, Token) {
    let (mut heads, mut after, mut token) = (Vec::<BatchHead>::new(), None::<WriterId>, None);
    loop {
        let page = backend.feeds(after.as_ref(), since, limit).unwrap();
        assert!(page.heads.len() <= limit);
        heads.extend(&page.heads);
        let first = token.get_or_insert(page.token).clone();
        if !page.more {
            return (heads, first);
        }
        after = Some(heads.last().expect("a page with more to come is not empty").feed);
    }
}

/// By ascending id, newest head each, the same whatever the page size.
pub fn feeds_are_listed_in_order_and_paged(fixture: &impl Fixture) {
    let mut expected = Vec::new();
    {
        let backend = fixture.open();
        for number in 1..=7 {
            let mut feed = TestFeed::new(number);
            for event in Event::lines("a", u64::from(number)) {
                feed.append(&*backend, &[event]).unwrap();
            }
            expected.push(*feed.heads.last().unwrap());
        }
    }
    expected.sort_by_key(|head| head.feed);
    let backend = fixture.open();
    for limit in [1, 2, 7, 100] {
        assert_eq!(list(&*backend, None, limit).0, expected, "pages of {limit}");
    }
}

/// After a token, every feed that moved is listed; feeds that did not may be.
pub fn a_token_names_at_least_what_moved(fixture: &impl Fixture) {
    let mut feeds: Vec<TestFeed> = (1..=5).map(TestFeed::new).collect();
    let token = {
        let backend = fixture.open();
        feeds[..4].iter_mut().for_each(|feed| feed.append(&*backend, &Event::lines("a", 2)).unwrap());
        list(&*backend, None, 2).1
    };
    let backend = fixture.open();
    for index in [1, 4] {
        feeds[index].append(&*backend, &Event::lines("b", 3)).unwrap();
    }
    for reopened in [false, true] {
        if reopened {
            backend.compact().unwrap();
        }
        let (moved, next) = list(&*backend, Some(&token), 1);
        for index in [1, 4] {
            assert!(moved.contains(feeds[index].heads.last().unwrap()), "feed {index} moved");
        }
        let (later, _) = list(&*backend, Some(&next), 10);
        assert!(later.len() <= 5);
        feeds[0].append(&*backend, &Event::lines(if reopened { "c" } else { "d" }, 1)).unwrap();
        assert!(list(&*backend, Some(&next), 10).0.contains(feeds[0].heads.last().unwrap()));
    }
}

/// A token of another store or version is no reason to miss anything.
pub fn an_unknown_token_means_everything(fixture: &impl Fixture) {
    let backend = fixture.open();
    let mut feed = TestFeed::new(1);
    feed.append(&*backend, &Event::lines("a", 2)).unwrap();
    for token in [Token(b"nonsense".to_vec()), Token(vec![0xff; 300]), Token(Vec::new())] {
        let heads = list(&*backend, Some(&token), 10).0;
        assert!(token.0.len() == 8 || heads == feed.heads, "token {token:?}");
    }
}

/// The id is made once.
pub fn the_id_of_a_ledger_stays(fixture: &impl Fixture) {
    let id = fixture.open().location().id;
    let backend = fixture.open();
    TestFeed::new(1).append(&*backend, &Event::lines("a", 2)).unwrap();
    backend.compact().unwrap();
    assert_eq!(backend.location().id, id);
    drop(backend);
    assert_eq!(fixture.open().location().id, id);
}
