//! Which messages are copies. A fork copies the messages of a session, under new ids, and keeps everything that they say:
//! when they began and ended, who answered, what it used. No record says that a session is a fork.
//!
//! Format facts: `Session.fork` and `Identifier` in the public source of OpenCode (github.com/anomalyco/opencode).

use super::facts::Message;
use crate::text::key_text;

/// The milliseconds after which ids begin anew: 36 bits of them stand in an id.
const ID_PERIOD: i64 = 1 << 36;

/// How much later than its message began the id of an answer is made at most, in milliseconds. Of 1,239 real messages none has an
/// id from more than a second off.
const ID_LATER_MAX: i64 = 10_000;

/// Returns what a call has in common with its copies; `None` for one that does not say when it began. Two calls may have it in
/// common as well (failures of one millisecond): only a copy is ever joined with another (`copied_after`).
///
/// The cost is left out: it follows from model and tokens. So is the folder, which says nothing of the call.
pub(super) fn identity(message: &Message) -> Option<String> {
    let created = message.created?;
    let tokens = message.tokens.unwrap_or_default();
    let count = |count: Option<i64>| count.map_or("-".to_owned(), |count| count.to_string());
    let completed = count(message.completed);
    let used = [tokens.input, tokens.output, tokens.reasoning, tokens.cache_read, tokens.cache_write];
    let used = used.map(count).join(".");
    let names = [&message.model, &message.provider, &message.agent, &message.finish, &message.error];
    // Of what a name may hold nothing can be taken for the end of it.
    let names = names.map(|name| format!("{name:?}")).join(" ");
    Some(key_text(&format!("{created} {completed} {used} {names}")).into_owned())
}

/// Returns how long after the end of a message its id was made, in milliseconds; `None` where it was made before, as of
/// every message that is no copy: the id of an answer is made when it is asked for. Of a message that has not ended it
/// is how long after [`ID_LATER_MAX`] from its beginning.
pub(super) fn copied_after(message: &Message) -> Option<u64> {
    let begun = || message.created.and_then(|created| created.checked_add(ID_LATER_MAX));
    let end = message.completed.or_else(begun)?;
    let later = id_instant(&message.id)?.checked_sub(end)?.rem_euclid(ID_PERIOD);
    // What is more than half a period away lies in the past.
    u64::try_from(later).ok().filter(|later| (1..ID_PERIOD as u64 / 2).contains(later))
}

/// Returns when an id was made, in milliseconds since an unknown multiple of [`ID_PERIOD`]: `msg_`, twelve digits of
/// milliseconds and a counter of twelve bits, and fourteen letters and digits of chance.
fn id_instant(id: &str) -> Option<i64> {
    let (digits, chance) = id.strip_prefix("msg_")?.split_at_checked(12)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    let is_id = is_hex && chance.len() == 14 && chance.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then(|| i64::from_str_radix(digits, 16).ok()).flatten().map(|instant| instant >> 12)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opencode::facts::Tokens;

    const CREATED: i64 = 1_767_225_600_000;

    fn message(made: i64) -> Message {
        let digits = (made * 4096 + 1) & ((1 << 48) - 1);
        Message {
            id: format!("msg_{digits:012x}abcdefghijKLMN"),
            created: Some(CREATED),
            completed: Some(CREATED + 9000),
            model: Some("model".to_owned()),
            tokens: Some(Tokens { output: Some(3), ..Tokens::default() }),
            ..Message::default()
        }
    }

    #[test]
    fn an_id_of_after_the_end_is_a_copys() {
        assert_eq!(copied_after(&message(CREATED)), None);
        assert_eq!(copied_after(&message(CREATED + 9000)), None);
        assert_eq!(copied_after(&message(CREATED + 9001)), Some(1));
        // Ids began anew in between: on 2026-08-14.
        assert!(message(CREATED + (1 << 35)).id < message(CREATED).id);
        assert_eq!(copied_after(&message(CREATED + 9000 + (1 << 34))), Some(1 << 34));
        let unfinished = |made| copied_after(&Message { completed: None, ..message(made) });
        let made = [CREATED, CREATED + 10_000, CREATED + 10_001].map(unfinished);
        assert_eq!(made, [None, None, Some(1)]);
        for odd in ["", "msg_2", "msg_zzzzzzzzzzzzabcdefghijKLMN", "msg_ffffffffffffäbcdefghijKLM"] {
            assert_eq!(copied_after(&Message { id: odd.to_owned(), ..message(CREATED) }), None);
        }
    }

    #[test]
    fn what_a_copy_keeps_is_the_identity_and_nothing_less() {
        let one = message(CREATED);
        let copy = Message { id: message(CREATED + 9999).id, cwd: Some("/other".to_owned()), ..one.clone() };
        assert_eq!(identity(&one), identity(&copy));
        let others = [
            Message { created: Some(CREATED + 1), ..one.clone() },
            Message { completed: Some(CREATED + 9001), ..one.clone() },
            Message { provider: Some("p".to_owned()), ..one.clone() },
            Message { tokens: Some(Tokens { output: Some(4), ..Tokens::default() }), ..one.clone() },
        ];
        assert!(others.iter().all(|other| identity(other).is_some() && identity(other) != identity(&one)));
        let others = [
            Message { tokens: Some(Tokens::default()), ..one.clone() },
            Message { tokens: None, error: Some("aborted".to_owned()), ..one.clone() },
            Message { completed: None, ..one.clone() },
        ];
        assert!(others.iter().all(|other| identity(other).is_some() && identity(other) != identity(&one)));
        assert_eq!(identity(&Message { created: None, ..one }), None);
    }
}
