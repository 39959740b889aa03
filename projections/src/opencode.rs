//! OpenCode: what a session, a message and a part mean. Each is an object that is rewritten in place while it grows, so of
//! each the version that counts is chosen among the facts of its session. Format facts: from files of 25 versions.

mod blocks;
mod copied;
mod facts;
mod object;
mod resolve;

use crate::json::{self, Count, Spanned};
use crate::records::{RecordClass, fingerprint};
use crate::relayburn::ImportedTurn;
use crate::sources::{Copies, Facts, Reading, SourceFold, SourceRecord};
use crate::streams::Stream;
use crate::text::{Name, key_text, plain_text};
use burnlog_log::Timestamp;
use facts::{Fact, Message, Tokens, Tool, Version};
use object::{Fields, Form, Object};

pub(crate) const FOLD: SourceFold = SourceFold {
    name: "opencode",
    rewrites: true,
    copies: Copies::Ids,
    names_session: true,
    locate: |stream| (stream, None),
    fold,
    resolve: resolve::resolve,
    family: |_| None,
};

/// Types of parts of which the folds need nothing, but which are no news. Sorted.
const KNOWN_PARTS: &[&str] = &["agent", "patch", "reasoning", "retry", "snapshot", "step-start", "subtask"];

/// Kinds of objects of which the folds need nothing. Sorted.
const KNOWN_KINDS: &[&str] = &["migration", "permission", "project", "session_diff", "session_share", "todo"];

/// Above every time of a session, so that a project that a session itself names comes first.
const PLACE_OF_MESSAGES: i64 = 1 << 61;

/// Notes a message of which another program tells, among the facts of its session: the object takes its place.
pub(crate) fn note_imported(
    turn: &ImportedTurn,
    record: &SourceRecord<'_>,
    stream: &Stream,
    facts: &mut Facts,
) {
    let version =
        Version { clock: None, is_complete: true, payload: record.payload_hash, place: record.address };
    let fact = facts::encode(&version, &Fact::Imported(turn.to_fact()));
    let key = format!("relayburn/{}", record.address).into_bytes();
    facts.note(&stream.source, &stream.session, key, fact);
}

fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = facts.text_of(record.payload);
    match json::read::<Spanned<Object<'_>>>(&text) {
        Some(object) => fold_object(record, object, stream, facts),
        None => Reading::of_class(RecordClass::Unreadable, "", facts),
    }
}

fn fold_object(
    record: &SourceRecord<'_>,
    object: Spanned<Object<'_>>,
    stream: &mut Stream,
    facts: &mut Facts,
) -> Reading {
    let (form, object, messages) = object.value.into_fields(object.span);
    let fields = &object.value;
    // The part before the slash of a stream's name says what the object is.
    let kind = record.session.split_once('/').map_or("", |(kind, _)| kind).to_owned();
    let mut fold = ObjectFold { record, stream, facts, form, session: String::new() };
    if kind == "export" && form.is_export {
        fold.session = text(fields.id.as_deref());
        fold.settle_session();
        fold.session(fields, &format!("session/{}", fold.session));
        for message in messages.iter() {
            fold.message(&message.info);
            for part in message.parts.iter() {
                fold.part(part);
            }
        }
        // A later export of the session holds all of it again.
        fold.rank_blocks(fields.time.as_ref().and_then(object::Time::latest), true);
        return fold.reading(RecordClass::Other, "export", fields.id.as_deref());
    }
    fold.session = text(if kind == "session" { fields.id.as_deref() } else { fields.session.as_deref() });
    fold.settle_session();
    let id = fields.id.as_deref();
    match &*kind {
        "session" if id.is_some() => {
            let version = fold.facts.names.option(fields.version.as_deref()).unwrap_or_default();
            fold.session(fields, record.session);
            Reading { version, ..fold.reading(RecordClass::Title, "session", id) }
        }
        "message" if id.is_some() => {
            let class = fold.message(fields);
            fold.reading(class, &format!("message/{}", fields.role.as_deref().unwrap_or_default()), id)
        }
        "part" if id.is_some() => {
            let class = fold.part(&object);
            fold.reading(class, &format!("part/{}", fields.kind.as_deref().unwrap_or_default()), id)
        }
        kind if KNOWN_KINDS.binary_search(&kind).is_ok() => fold.reading(RecordClass::Other, kind, id),
        kind => fold.reading(RecordClass::Unknown, kind, id),
    }
}

/// One event and all that its facts have in common.
struct ObjectFold<'f> {
    record: &'f SourceRecord<'f>,
    stream: &'f mut Stream,
    facts: &'f mut Facts,
    form: Form,
    session: String,
}

impl ObjectFold<'_> {
    /// The object says which session it belongs to; its name does not.
    fn settle_session(&mut self) {
        if self.session.is_empty() {
            self.session.push_str(&self.stream.stream);
        } else {
            let session = self.facts.names.get(&self.session);
            self.stream.offer_session(session);
        }
    }

    /// Ends a record; one of an unknown type becomes a fact, so that its version can be told.
    fn reading(&mut self, class: RecordClass, record_type: &str, id: Option<&str>) -> Reading {
        if class == RecordClass::Unknown {
            let key = format!("unknown/{}", self.record.address);
            self.note(&key, None, true, &Fact::Unknown { record_type: key_text(record_type).into_owned() });
        }
        let fingerprint = id.map_or([0; 4], fingerprint);
        Reading { fingerprint, ..Reading::of_class(class, record_type, self.facts) }
    }

    fn version(&self, clock: Option<i64>, is_complete: bool) -> Version {
        let (payload, place) = (self.record.payload_hash, self.record.address);
        Version { clock: clock.max(self.form.updated), is_complete, payload, place }
    }

    fn note(&mut self, key: &str, clock: Option<i64>, is_complete: bool, fact: &Fact) {
        let fact = facts::encode(&self.version(clock, is_complete), fact);
        let group = self.facts.names.get(&self.session);
        self.facts.note(&self.stream.source, &group, key_text(key).into_owned().into_bytes(), fact);
    }

    fn offer_instants(&mut self, times: &[Count]) {
        times.iter().filter_map(|time| instant(time.value)).for_each(|at| self.stream.offer_instant(at));
    }

    fn session(&mut self, fields: &Fields<'_>, key: &str) {
        let time = fields.time.as_ref();
        let columns = self.form.created.max(self.form.updated);
        let clock = time.and_then(object::Time::latest).max(columns);
        // Later versions come first.
        let place = PLACE_OF_MESSAGES / 2 - clock.unwrap_or(0).clamp(0, PLACE_OF_MESSAGES / 4);
        if let Some(directory) = self.facts.names.option(fields.directory.as_deref()) {
            self.stream.offer_project(&directory, place);
        }
        if let Some(title) = fields.title.as_deref() {
            self.stream.offer_title(&plain_text(title), 1, clock.unwrap_or(0));
        }
        if let Some(version) = self.facts.names.option(fields.version.as_deref()) {
            self.stream.offer_version(&version, clock.unwrap_or(0));
        }
        if let Some(time) = time {
            self.offer_instants(&[time.created, time.updated]);
        }
        for at in [self.form.created, self.form.updated].into_iter().filter_map(instant) {
            self.stream.offer_instant(at);
        }
        let (parent, version) = (option(fields.parent.as_deref()), option(fields.version.as_deref()));
        self.note(key, clock, true, &Fact::Session { parent, version });
    }

    fn message(&mut self, fields: &Fields<'_>) -> RecordClass {
        let is_user = match fields.role.as_deref() {
            Some("user") => true,
            Some("assistant") => false,
            _ => return RecordClass::Unknown,
        };
        let time = fields.time.as_ref();
        let created = time.and_then(|time| time.created.value);
        let completed = time.and_then(|time| time.completed.value);
        if let Some(time) = time {
            self.offer_instants(&[time.created, time.completed]);
        }
        let cwd = fields.path.as_ref().and_then(|path| path.cwd.as_deref());
        if let Some(cwd) = self.facts.names.option(cwd) {
            self.stream.offer_project(&cwd, PLACE_OF_MESSAGES + created.unwrap_or(0).clamp(0, 1 << 50));
        }
        let error = fields.error.as_ref();
        let id = text(fields.id.as_deref());
        let key = format!("message/{id}");
        let message = Message {
            id,
            is_user,
            created,
            completed,
            model: option(fields.model.as_deref()),
            provider: option(fields.provider.as_deref()),
            agent: option(fields.agent.as_deref().or(fields.mode.as_deref())),
            finish: option(fields.finish.as_deref()),
            tokens: fields.tokens.as_ref().map(tokens),
            cwd: option(cwd),
            error: option(error.and_then(|error| error.name.as_deref())),
            status: error.and_then(|error| error.data.as_ref()).and_then(|data| data.status.value),
        };
        let clock = time.and_then(object::Time::latest);
        self.note(&key, clock, completed.is_some(), &Fact::Message(Box::new(message)));
        self.message_blocks(fields);
        self.rank_blocks(clock, completed.is_some());
        if is_user { RecordClass::User } else { RecordClass::Assistant }
    }

    fn part(&mut self, part: &Spanned<Fields<'_>>) -> RecordClass {
        let fields = &part.value;
        let (id, message) = (text(fields.id.as_deref()), text(fields.message.as_deref()));
        let mut clock = fields.time.as_ref().and_then(object::Time::latest);
        let mut is_complete = fields.time.as_ref().is_none_or(|time| time.end.value.is_some());
        if let Some(time) = &fields.time {
            self.offer_instants(&[time.start, time.end]);
        }
        let key = format!("part/{id}");
        let (class, fact) = match fields.kind.as_deref() {
            Some("text") => {
                let synthetic = fields.synthetic.0 == Some(true);
                let characters = fields.text.value.characters();
                // The part does not say whose it is; what a model says has been timed in all real files, and is not synthetic.
                let is_answer = fields.time.is_some() && !synthetic;
                let class = if is_answer { RecordClass::Assistant } else { RecordClass::User };
                (class, Some(Fact::Text { message, characters, synthetic }))
            }
            Some("file") => {
                let is_image = fields.mime.as_deref().is_some_and(|mime| mime.starts_with("image/"));
                (RecordClass::User, Some(Fact::File { message, is_image }))
            }
            Some("compaction") => {
                (RecordClass::System, Some(Fact::Compaction { message, auto: fields.auto.0 }))
            }
            Some("step-finish") => {
                let tokens = fields.tokens.as_ref().map(tokens).unwrap_or_default();
                (RecordClass::Assistant, Some(Fact::Step { message, tokens }))
            }
            Some("tool") => {
                let tool = tool(id, message, fields);
                clock = clock.max(tool.end).max(tool.start);
                is_complete = tool.is_error.is_some();
                for at in [tool.start, tool.end].into_iter().filter_map(instant) {
                    self.stream.offer_instant(at);
                }
                (RecordClass::Assistant, Some(Fact::Tool(Box::new(tool))))
            }
            Some(other) if KNOWN_PARTS.binary_search(&other).is_ok() => (RecordClass::Assistant, None),
            _ => (RecordClass::Unknown, None),
        };
        if let Some(fact) = &fact {
            self.note(&key, clock, is_complete, fact);
        }
        if self.part_blocks(part) {
            self.rank_blocks(clock, is_complete);
        }
        class
    }
}

fn tool(id: String, message: String, fields: &Fields<'_>) -> Tool {
    let state = fields.state.as_deref();
    let time = state.and_then(|state| state.time.as_ref());
    let input = state.and_then(|state| state.input.value.as_ref());
    let status = state.and_then(|state| state.status.as_deref());
    Tool {
        id,
        message,
        name: option(fields.tool.as_deref()),
        target: option(input.and_then(|input| input.file_path.as_deref().or(input.path.as_deref()))),
        start: time.and_then(|time| time.start.value),
        end: time.and_then(|time| time.end.value),
        is_error: match status {
            Some("completed") => Some(false),
            Some("error") => Some(true),
            _ => None,
        },
        bytes: state.and_then(|state| state.output.value.bytes().or(state.error.value.bytes())),
    }
}

fn tokens(tokens: &object::Tokens<'_>) -> Tokens {
    let counts = [tokens.input, tokens.output, tokens.reasoning, tokens.cache.read, tokens.cache.write];
    let [input, output, reasoning, cache_read, cache_write] = counts.map(|count| count.value);
    let clamped = counts.iter().any(|count| count.clamped);
    Tokens { input, output, reasoning, cache_read, cache_write, clamped }
}

/// A text for a fact; one that is too long for a key is cut as keys are.
fn option(field: Option<&str>) -> Option<String> {
    field.map(|field| key_text(field).into_owned())
}

fn text(field: Option<&str>) -> String {
    option(field).unwrap_or_default()
}

/// Milliseconds since 1970 as an instant.
fn instant(milliseconds: Option<i64>) -> Option<Timestamp> {
    milliseconds.map(|milliseconds| Timestamp::from_micros(milliseconds.saturating_mul(1000)))
}

/// Names are made once for each text that comes often.
fn name(text: Option<&String>) -> Option<Name> {
    text.map(|text| Name::from(&**text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_are_sorted() {
        assert!(KNOWN_PARTS.is_sorted());
        assert!(KNOWN_KINDS.is_sorted());
    }
}
