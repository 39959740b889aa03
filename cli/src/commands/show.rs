//! `burnlog show`: a session as a person reads it.

use super::sessions::{self, SessionHosts};
use super::{Context, SessionLine};
use crate::args::{Format, Show};
use crate::pager::{Pager, wants_colours};
use crate::transcript::{Html, Json, Markdown, PayloadReader, Plan, Renderer, Terminal, plan, write};
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Name, Row, RowReader, Session, Value, live, resolve_session};
use std::borrow::Cow;
use std::process::ExitCode;

pub(super) fn run(context: &Context, arguments: &Show) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    if global.csv {
        let message = "a transcript is no list; --format takes text, markdown, html or json";
        return Err(Error::new(ErrorKind::Invalid, "read arguments", message).into());
    }
    let (ledger, store) = context.ledger_and_queries()?;
    let (source, session) = resolve_session(&*store, &arguments.session)?;
    let session = session_row(&*store, &source, &session)?;
    let payloads = PayloadReader::new(&ledger);
    let plan = plan(&*store, &payloads, &session, !arguments.no_copied)?;
    let head = sessions::line(session, &mut SessionHosts::new(&*store)?)?;
    let format = if global.json { Format::Json } else { arguments.format };
    let mut out = if format == Format::Text { Pager::open() } else { Pager::straight() };
    let written = render(&mut out, format, arguments.full, &head, &plan, &payloads);
    // Whoever leaves a pager early has read enough: the pager is waited for either way.
    let finished = out.finish();
    written?;
    finished?;
    Ok(ExitCode::SUCCESS)
}

fn render(
    out: &mut Pager,
    format: Format,
    full: bool,
    head: &SessionLine,
    plan: &Plan,
    payloads: &PayloadReader<'_>,
) -> anyhow::Result<()> {
    let renderer: &mut dyn Renderer = match format {
        Format::Text => &mut Terminal::new(out, wants_colours(), full),
        Format::Markdown => &mut Markdown::new(out, full),
        Format::Html => &mut Html::new(out, full),
        Format::Json => &mut Json::new(out),
    };
    renderer.begin(head)?;
    write(plan, payloads, renderer)
}

/// Reads the row of a session that is known to be there.
fn session_row(reader: &dyn RowReader, source: &Name, session: &Name) -> Result<Session> {
    let key = [Value::Text(Cow::Borrowed(&**source)), Value::Text(Cow::Borrowed(&**session))];
    let row = reader.get(live(reader)?, Session::TABLE, &key)?.map(Session::read).transpose()?;
    row.ok_or_else(|| {
        let message = "the session went while it was looked for; try again";
        Error::new(ErrorKind::NotFound, "find session", message)
    })
}
