//! Golden bytes of format version 1 (`docs/format.md`). They are a lock: when one of these fails the code is
//! wrong, whatever it computes; a new format gets a new version and goldens of its own.

use burnlog_log::{
    Address, Frontier, Kind, Part, PayloadHash, Position, Skeleton, Timestamp, WriterKey, leaf, push_hex,
};

fn skeleton(position: Position<'_>, payload: &[u8]) -> String {
    let mut out = Vec::new();
    Skeleton { position, payload: PayloadHash::of(payload), bytes: payload.len() as u64 }.encode(&mut out);
    String::from_utf8(out).unwrap()
}

fn line(stream: &str, seq: u64, part: Option<Part>) -> Position<'_> {
    Position { kind: Kind::Line, source: "claude-code".into(), stream: stream.into(), seq, part }
}

#[test]
fn the_skeleton_of_a_line() {
    let text = skeleton(line("5f2c1f0e-0000-4000-8000-000000000001", 17, None), br#"{"type":"user"}"#);
    assert_eq!(
        text,
        "{\"v\":1,\"kind\":\"line\",\"source\":\"claude-code\",\"stream\":\"5f2c1f0e-0000-4000-8000-000000000001\",\
         \"seq\":17,\"payload\":\"b3:df7283fd72d2a5eea9265219a908d789c894983322d197e8f82031e6e53ff7c0\",\"bytes\":15}"
    );
    assert_eq!(
        Address::of(text.as_bytes()).to_string(),
        "b3:df51237e0e317860a21d9e8afc3cd6c3f369707c54eeca64645c589425c88bc8"
    );
}

#[test]
fn the_skeleton_of_a_part_with_an_odd_name() {
    let text = skeleton(line("a \"b\"\\\n\u{1}é/\u{7f}", 0, Some(Part { number: 0, more: true })), b"");
    assert_eq!(
        text,
        "{\"v\":1,\"kind\":\"line\",\"source\":\"claude-code\",\"stream\":\"a \\\"b\\\"\\\\\\n\\u0001é/\u{7f}\",\
         \"seq\":0,\"part\":0,\"more\":true,\"payload\":\
         \"b3:af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262\",\"bytes\":0}"
    );
    assert_eq!(
        Address::of(text.as_bytes()).to_string(),
        "b3:f35537b47990891ff4ca78e6c5a3d1f42eda5ea0cb9c1143009af7296e209268"
    );
}

#[test]
fn the_tree_and_the_signed_head_of_a_feed() {
    let mut frontier = Frontier::default();
    assert_eq!(
        frontier.root().to_string(),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    frontier.extend((0..3).map(|seq| leaf(skeleton(line("s", seq, None), b"{}").as_bytes())));
    let key = WriterKey::from_secret(std::array::from_fn(|index| index as u8));
    let head = key.sign_head(&frontier, Timestamp::parse("2026-01-02T03:04:05.678901Z").unwrap());
    assert_eq!(
        head.feed.to_string(),
        "ed25519:03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
    );
    assert_eq!(
        head.root.to_string(),
        "sha256:fc3cafba64db57edc0b5ec6c5b427bcb3526cf8456df6ac6299f5d2a73aea399"
    );
    assert_eq!(
        burnlog_log::BatchHead::signed_text(&head.feed, head.size, &head.root, head.recorded_at),
        "burnlog/feed/03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8\n3\n\
         /DyvumTbV+3AtexsW0J7yzUmz4RW32rGKZ9dKnOuo5k=\nrecorded_at 1767323045678901\n"
    );
    let mut signature = Vec::new();
    push_hex(&mut signature, &head.signature.0);
    assert_eq!(
        String::from_utf8(signature).unwrap(),
        "adc52474d8a9d1d5460cce0e13d8662784ae7727078c39f1686299cd8f8fb74fdf2ec5902dfdb362425bc1597552d2c7268cd496408a075af04db32160c4f60c"
    );
    head.verify().unwrap();
}
