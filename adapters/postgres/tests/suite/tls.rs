//! `sslmode`, against a server that has TLS and one that has not. Both are started here: what a given server does
//! about TLS is not ours to change.

use burnlog_log::ErrorKind;
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions};
use std::path::Path;

fn opens(database: &Database, option: &str) -> Result<(), ErrorKind> {
    match PostgresBackend::open(&database.url_with(option), &PostgresOptions::default()) {
        Ok(_) => Ok(()),
        Err(error) => {
            assert!(!error.to_string().contains("secret"), "{error}");
            Err(error.kind())
        }
    }
}

#[test]
fn sslmode_is_honoured() {
    let file = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name);
    let with = Cluster::start_with_tls(&file("server.pem"), &file("server.key")).unwrap().database().unwrap();
    let root = |name: &str| format!("sslrootcert={}", file(name).display());
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) \
                     where application_name = 'burnlog' and datname = current_database() and client_addr is not null";
    let (authority, other) = (root("authority.pem"), root("other.pem"));
    assert_eq!(opens(&with, "sslmode=disable"), Ok(()));
    assert_eq!(opens(&with, "sslmode=prefer"), Ok(()));
    assert_eq!(opens(&with, "sslmode=require"), Ok(()));
    assert_eq!(opens(&with, &format!("sslmode=verify-ca&{authority}")), Ok(()));
    assert_eq!(opens(&with, &format!("sslmode=verify-full&{authority}")), Ok(()));
    assert_eq!(with.rows(encrypted).unwrap(), [["t"]]);
    // The certificate is made out to 127.0.0.1 and not to localhost, and its root is in no system's store.
    let elsewhere = |url: String| {
        let error =
            PostgresBackend::open(&url.replace("127.0.0.1", "localhost"), &PostgresOptions::default());
        error.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(elsewhere(with.url_with(&format!("sslmode=verify-ca&{authority}"))), Ok(()));
    assert_eq!(elsewhere(with.url_with(&format!("sslmode=verify-full&{authority}"))), Err(ErrorKind::Denied));
    assert_eq!(opens(&with, &format!("sslmode=verify-ca&{other}")), Err(ErrorKind::Denied));
    assert_eq!(opens(&with, "sslmode=verify-full&sslrootcert=/no/such/file"), Err(ErrorKind::Invalid));

    let without = Cluster::shared().unwrap().database().unwrap();
    if std::env::var_os("BURNLOG_TEST_POSTGRES").is_none() {
        assert_eq!(opens(&without, "sslmode=prefer"), Ok(()));
        assert_eq!(opens(&without, "sslmode=require"), Err(ErrorKind::Denied));
    }
}
