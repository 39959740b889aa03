//! `burnlog token`: who may use the server of this host.

use super::Context;
use crate::args::{Token, TokenScope};
use crate::environment::now;
use crate::output::{Column, Cut, Printer, minute, print_one, say};
use burnlog_http::{Scope, is_ledger_name};
use burnlog_log::{Error, ErrorKind, Timestamp};
use burnlog_server::{NewToken, TokenRecord, Tokens};
use std::process::ExitCode;

/// The fields of `token create --json`, `token list --json` and `token revoke --json`.
#[derive(serde::Serialize)]
struct Line {
    id: String,
    /// Only when it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    name: Option<String>,
    scopes: String,
    ledger: Option<String>,
    created_at: Timestamp,
    revoked_at: Option<Timestamp>,
}

const COLUMNS: &[Column<Line>] = &[
    Column::text("id", |line| line.id.clone()),
    Column::text("scopes", |line| line.scopes.clone()),
    Column::text("ledger", |line| line.ledger.clone().unwrap_or_default()),
    Column::shrinking("name", Cut::End, |line| line.name.clone().unwrap_or_default()),
    Column::text("created", |line| minute(Some(line.created_at))),
    Column::text("revoked", |line| minute(line.revoked_at)),
];

pub(super) fn run(context: &Context, arguments: &Token) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    let tokens = Tokens::new(context.environment.home.tokens());
    match arguments {
        Token::Create { scope, ledger, name } => {
            if let Some(wrong) = ledger.as_deref().filter(|name| !is_ledger_name(name)) {
                let message = format!("{wrong:?} names no ledger: 1 to 63 of a-z, 0-9, _ and -");
                return Err(Error::new(ErrorKind::Invalid, "create token", message).into());
            }
            let scopes = scope.iter().map(|scope| scope_of(*scope)).collect();
            let new = NewToken { name: name.clone(), scopes, ledger: ledger.clone(), created_at: now() };
            let (token, record) = tokens.create(new)?;
            let line = Line { token: Some(token.clone()), ..line(record) };
            say(global, "burnlog: keep the token: it is shown this once");
            print_one(global, &line, || format!("{token}\n"))?;
        }
        Token::List => {
            let mut printer = Printer::new(global, COLUMNS);
            tokens.list()?.into_iter().try_for_each(|record| printer.row(&line(record)))?;
            printer.finish()?;
        }
        Token::Revoke { id } => {
            let line = line(tokens.revoke(id, now())?);
            print_one(global, &line, || format!("revoked {}\n", line.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(record: TokenRecord) -> Line {
    let TokenRecord { id, name, scopes, ledger, created_at, revoked_at, .. } = record;
    Line { id, token: None, name, scopes: scopes.join(","), ledger, created_at, revoked_at }
}

fn scope_of(scope: TokenScope) -> Scope {
    match scope {
        TokenScope::Append => Scope::Append,
        TokenScope::Read => Scope::Read,
        TokenScope::Admin => Scope::Admin,
    }
}
