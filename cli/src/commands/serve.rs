//! `burnlog serve`: ledgers over HTTP.

use super::Context;
use super::lists::Lists;
use crate::args::{Durability, Global, LogFormat, Serve};
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::say;
use burnlog_http::{Asked, DEFAULT_LEDGER, is_ledger_name};
use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_projections::{FoldLimits, FoldStore, Queries};
use burnlog_server::{Limits, ProjectedLedger, Projections, Running, ServerConfig, TlsFiles, Tokens};
use std::process::ExitCode;
use std::sync::Arc;

/// The projections of a ledger, opened as any command opens them.
struct Opened {
    ledger: Ledger,
    /// As of a command that says nothing but errors: nobody waits at a terminal for what a request does.
    context: Context,
}

impl Projections for Opened {
    fn folding(&self) -> Result<Box<dyn FoldStore>> {
        let store = open::projections(&self.ledger, &self.context.environment, &self.context.global)?;
        Ok(store)
    }

    fn limits(&self) -> FoldLimits {
        folding::limits(&self.context.environment, folding::WAIT)
    }

    fn asking(&self) -> Result<Box<dyn Queries + Send>> {
        open::queries(&self.ledger, &self.context.environment, &self.context.global)
    }

    fn lines(&self, asked: &Asked, queries: &dyn Queries) -> Result<Vec<u8>> {
        Lists { context: &self.context, ledger: &self.ledger, queries }.lines(asked)
    }
}

pub(super) fn run(context: &Context, arguments: &Serve) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    start_log(arguments.log, global.quiet);
    let mut ledgers = Vec::new();
    let stores = stores(context, arguments)?;
    check(&stores)?;
    for Served { name, text, url } in stores {
        let ledger = open::ledger(&url, Access::Create(Durability::Batch), global)?;
        say(global, &format!("burnlog: serving {} as {name}", ledger.location().url));
        let own = Context {
            global: Global { quiet: true, store: text, ..global.clone() },
            environment: environment.clone(),
        };
        let projections = Arc::new(Opened { ledger: ledger.clone(), context: own });
        ledgers.push(ProjectedLedger { name, ledger, projections });
    }
    let tokens = environment.home.tokens();
    let has_tokens = !Tokens::new(tokens.clone()).list()?.is_empty();
    let tls = match (&arguments.tls_cert, &arguments.tls_key) {
        (Some(certificates), Some(key)) => {
            Some(TlsFiles { certificates: certificates.clone(), key: key.clone() })
        }
        _ => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let running = Running::start(ServerConfig {
        listen: arguments.listen,
        tls,
        tokens,
        ledgers,
        limits: Limits::default(),
    })?;
    say(global, &format!("burnlog: listening on {scheme}://{}", running.address()));
    if !has_tokens {
        say(
            global,
            "burnlog: there is no token: whoever is on this machine may do everything; burnlog token create makes one",
        );
    }
    running.wait_for_signal()?;
    say(global, "burnlog: stopping when what is under way is done");
    running.stop();
    Ok(ExitCode::SUCCESS)
}

/// A ledger that is to be served.
struct Served {
    name: String,
    /// The URL as it was given; absent where the environment says it.
    text: Option<String>,
    url: StoreUrl,
}

/// Which ledgers are served.
fn stores(context: &Context, arguments: &Serve) -> Result<Vec<Served>> {
    let mut stores = Vec::new();
    for text in &arguments.ledger {
        let Some((name, url)) = text.split_once('=') else {
            let message = "--ledger takes NAME=URL";
            return Err(Error::new(ErrorKind::Invalid, "read arguments", message));
        };
        let text = Some(url.to_owned());
        stores.push(Served { name: name.to_owned(), text, url: StoreUrl::parse(url)? });
    }
    if stores.is_empty() || context.global.store.is_some() {
        let url = StoreUrl::choose(&context.global, &context.environment)?;
        stores.push(Served { name: DEFAULT_LEDGER.to_owned(), text: context.global.store.clone(), url });
    }
    Ok(stores)
}

/// Refuses what cannot be served, before anything is opened or made.
fn check(stores: &[Served]) -> Result<()> {
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "serve", message));
    for (number, Served { name, url, .. }) in stores.iter().enumerate() {
        if matches!(url, StoreUrl::Http(_)) {
            return invalid(
                "a server does not serve the ledger of another server; give hosts its URL".to_owned(),
            );
        }
        if !is_ledger_name(name) {
            return invalid(format!("{name:?} names no ledger: 1 to 63 of a-z, 0-9, _ and -"));
        }
        if stores[..number].iter().any(|other| other.name == *name) {
            return invalid(format!("two ledgers have the name {name:?}"));
        }
    }
    Ok(())
}

/// Starts the log of requests on standard error.
fn start_log(format: LogFormat, quiet: bool) {
    let level = if quiet {
        tracing_subscriber::filter::LevelFilter::WARN
    } else {
        tracing_subscriber::filter::LevelFilter::INFO
    };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(level).with_target(false);
    // Only a second log in one process could fail.
    let _ = match format {
        LogFormat::Text => log.with_ansi(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}
