//! `pg_hba.conf` and `pg_ident.conf`.
//!
//! The pod's own user is the superuser over the Unix socket (the socket's directory belongs to the pod
//! alone); replicas come with a client certificate; everyone else needs a password.

use howdah_api::naming::REPLICATION_USER;

/// Name of the map in `pg_ident.conf`.
const MAP: &str = "howdah";

/// Lines that end with a line break cannot be smuggled in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("spec.postgresql.pg_hba[{index}] must be a single line: remove the line break")]
pub struct HbaError {
    index: usize,
}

/// Renders `pg_hba.conf`. `tls`: the server has TLS; lines for it are errors in a server built without.
///
/// # Errors
/// When a line of the user contains a line break.
pub fn render(user_lines: &[String], tls: bool) -> Result<String, HbaError> {
    let mut text = String::from(super::conf::HEADER);
    text.push_str("local all all peer map=");
    text.push_str(MAP);
    text.push('\n');
    if tls {
        for database in ["replication", "postgres"] {
            text.push_str(&format!("hostssl {database} {REPLICATION_USER} all cert\n"));
        }
    }
    text.push_str(&format!("host all {REPLICATION_USER} all reject\n"));
    for (index, line) in user_lines.iter().enumerate() {
        if line.contains(['\n', '\r', '\0']) {
            return Err(HbaError { index });
        }
        text.push_str(line.trim());
        text.push('\n');
    }
    text.push_str("host all all all scram-sha-256\n");
    Ok(text)
}

/// Renders `pg_ident.conf`: the pod's user may be `postgres`.
#[must_use]
pub fn render_ident(os_user: &str) -> String {
    format!("{}{MAP} {os_user} postgres\n", super::conf::HEADER)
}

/// Name of user `uid` in the content of a passwd file. Read as a file: a static program has no name service.
#[must_use]
pub fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_own_lines_then_the_users_then_the_last_word() {
        let user = ["host app app 10.0.0.0/8 scram-sha-256".to_owned()];
        insta::assert_snapshot!(render(&user, true).unwrap());
    }

    #[test]
    fn without_tls_no_line_mentions_it() {
        let text = render(&[], false).unwrap();
        assert!(!text.contains("hostssl"), "{text}");
        assert!(text.contains("host all streaming_replica all reject"), "{text}");
    }

    #[test]
    fn no_line_breaks() {
        let error = render(&["host a a all md5\nhost all all all trust".to_owned()], true).unwrap_err();
        assert!(error.to_string().contains("pg_hba[0]"));
    }

    #[test]
    fn users_are_found_by_id() {
        let passwd = "root:x:0:0::/:/bin/sh\nbad line\npostgres:x:26:26::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 26), Some("postgres"));
        assert_eq!(user_name(passwd, 27), None);
        assert!(render_ident("postgres").ends_with("howdah postgres postgres\n"));
    }
}
