//! The walk: layouts, links, what stands in the way.

use crate::support::Host;
use burnlog_sources::{Environment, Places, discover};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const LINE: &str = "{\"sessionId\":\"S\",\"cwd\":\"/work\"}\n";

fn streams(host: &Host) -> Vec<String> {
    let mut streams: Vec<String> = host.lines().into_iter().map(|event| event.stream).collect();
    streams.dedup();
    streams
}

#[test]
fn every_layout_gives_its_stream() {
    let mut host = Host::new();
    host.write("S.jsonl", LINE);
    host.write("S/subagents/agent-1.jsonl", LINE);
    host.write("S/subagents/agent-1.meta.json", "{\"agentType\":\"x\"}");
    host.write("S/tool-results/out.jsonl", LINE);
    host.write("agent-2.jsonl", LINE);
    host.write("agent-3.jsonl", "{\"no\":\"session\"}\n");
    host.write("sessions-index.json", "{}");
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.failed), (5, 0));
    let expected = ["S", "S/subagents/agent-1", "S/subagents/agent-1.meta", "S/subagents/agent-2", "agent-3"];
    assert_eq!(streams(&host), expected);
    assert_eq!(discover(&Places::Roots(vec![host.home()])).others, 2);
}

#[test]
fn a_root_may_be_any_part_of_the_tree() {
    let host = Host::new();
    host.write("S.jsonl", LINE);
    host.write("S/subagents/agent-1.jsonl", LINE);
    let claude = host.home().join(".claude");
    let session = host.path("S");
    let roots: [(PathBuf, usize); 8] = [
        (host.home(), 2),
        (claude.clone(), 2),
        (claude.join("projects"), 2),
        (claude.join("projects/-work"), 2),
        (session.clone(), 1),
        (session.join("subagents"), 1),
        (session.join("subagents/agent-1.jsonl"), 1),
        (host.path("S.jsonl"), 1),
    ];
    for (root, files) in roots {
        let mut fresh = Host::new();
        assert_eq!(
            fresh.ingest_from(std::slice::from_ref(&root)).total().files,
            files as u64,
            "{}",
            root.display()
        );
        let known = ["S", "S/subagents/agent-1"];
        assert!(streams(&fresh).iter().all(|stream| known.contains(&stream.as_str())), "{}", root.display());
        // The same files by another way are the same files.
        let counts = fresh.ingest_from(&[host.home(), root]).total();
        assert_eq!((counts.files, counts.present), (2, 0));
    }
}

#[test]
fn places_without_sessions_are_named() {
    let host = Host::new();
    fs::create_dir_all(host.home().join("empty")).unwrap();
    host.write_at(&host.home().join("notes.txt"), b"x");
    let named = vec![host.home().join("empty"), host.home().join("notes.txt"), host.home().join("absent")];
    let plan = discover(&Places::Roots(named.clone()));
    assert_eq!(plan.without_sessions, named[..2]);
    assert_eq!(plan.failed.len(), 1);
    assert_eq!(plan.failed[0].path, named[2]);
    assert_eq!(plan.files().len(), 0);
}

#[test]
fn the_environment_says_where_to_look() {
    let host = Host::new();
    host.write("S.jsonl", LINE);
    host.write_at(&host.home().join("a/projects/-x/T.jsonl"), LINE.as_bytes());
    let mut environment = Environment { home: Some(host.home()), variables: Vec::new() };
    let files = |environment: &Environment| -> Vec<PathBuf> {
        let plan = discover(&Places::Environment(environment.clone()));
        assert!(plan.failed.is_empty());
        plan.files().map(|(_, path, _)| path.to_path_buf()).collect()
    };
    assert_eq!(files(&environment), [host.path("S.jsonl")]);
    let list = format!("{}, {}", host.home().join("a").display(), host.home().join("absent").display());
    environment.variables.push(("CLAUDE_CONFIG_DIR".to_owned(), list.into()));
    assert_eq!(files(&environment), [host.home().join("a/projects/-x/T.jsonl")]);
}

#[test]
fn trap_27_links_are_followed_and_loops_end() {
    let mut host = Host::new();
    host.write_at(&host.home().join("elsewhere/S.jsonl"), LINE.as_bytes());
    let projects = host.home().join(".claude/projects");
    fs::create_dir_all(projects.join("-work")).unwrap();
    symlink(host.home().join("elsewhere"), projects.join("-linked")).unwrap();
    symlink(&projects, projects.join("-work/loop")).unwrap();
    symlink(host.home().join("elsewhere"), host.home().join("elsewhere/self")).unwrap();
    symlink(host.home().join("elsewhere/S.jsonl"), projects.join("-work/T.jsonl")).unwrap();
    let report = host.ingest();
    assert_eq!((report.total().files, report.failed.len()), (1, 0));
    assert_eq!(streams(&host), ["S"]);
}

#[test]
fn trap_27_what_stands_in_the_way_is_counted_and_the_rest_goes_on() {
    let mut host = Host::new();
    host.write("S.jsonl", LINE);
    fs::create_dir_all(host.path("folder.jsonl")).unwrap();
    symlink("nowhere", host.path("dangling")).unwrap();
    symlink("nowhere", host.path("dangling.jsonl")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.path("socket.jsonl")).unwrap();
    let report = host.ingest();
    assert_eq!(report.total().new, 1);
    let failed: Vec<_> = report.failed.iter().map(|failed| failed.path.clone()).collect();
    assert_eq!(
        failed,
        ["dangling", "dangling.jsonl", "folder.jsonl", "socket.jsonl"].map(|name| host.path(name))
    );
    assert!(report.failed.iter().all(|failed| !failed.error.location().is_empty()));
}

#[test]
fn projects_are_left_out_by_their_working_folder() {
    let mut host = Host::new();
    host.write("open.jsonl", "{\"type\":\"summary\"}\n{\"cwd\":\"/home/me/open\"}\n");
    host.write("secret.jsonl", "{\"type\":\"summary\"}\n{\"cwd\":\"/home/me/secret/sub\"}\n");
    host.write("secret/subagents/agent-1.jsonl", "{\"cwd\":\"/home/me/secret\"}\n");
    host.write("secret/subagents/agent-1.meta.json", "{}");
    host.options.filter.exclude = vec!["/home/me/secret".to_owned()];
    let counts = host.ingest().total();
    assert_eq!((counts.files, counts.excluded, counts.failed), (4, 3, 0));
    assert_eq!(streams(&host), ["open"]);
    let counts = host.close().total();
    assert_eq!((counts.excluded, counts.closed), (3, 1));
    assert_eq!(streams(&host), ["open"]);
    host.remove("secret.jsonl");
    host.options.filter.exclude.clear();
    host.ingest();
    let counts = host.close().total();
    assert_eq!(counts.excluded, 0);
    assert_eq!(streams(&host), ["open", "secret/subagents/agent-1", "secret/subagents/agent-1.meta"]);
}

#[test]
fn a_session_that_does_not_say_where_it_ran_goes_by_its_folder() {
    let mut host = Host::new();
    host.write("S.jsonl", "{\"type\":\"summary\"}\n");
    host.options.filter.exclude = vec!["/work".to_owned()];
    assert_eq!(host.ingest().total().excluded, 1);
    host.options.filter.exclude = vec!["/elsewhere".to_owned()];
    assert_eq!(host.ingest().total().excluded, 0);
    assert_eq!(host.feed_size(), 1);
}
