//! `pg_hba.conf` and `pg_ident.conf`.
//!
//! The pod's own user is the superuser over the Unix socket (the socket's directory belongs to the pod
//! alone); replicas come with a client certificate; everyone else needs a password.

use howdah_api::naming::REPLICATION_USER;

/// Name of the map in `pg_ident.conf`.
const MAP: &str = "howdah";

/// What PostgreSQL's manual knows as kinds of connections.
const TYPES: [&str; 6] = ["local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"];
/// And as methods.
const METHODS: [&str; 15] = [
    "trust",
    "reject",
    "scram-sha-256",
    "md5",
    "password",
    "gss",
    "sspi",
    "ident",
    "peer",
    "ldap",
    "radius",
    "cert",
    "pam",
    "bsd",
    "oauth",
];

/// A line that PostgreSQL would not take: with it in the file a server does not start, and takes no other change of the file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("spec.postgresql.pg_hba[{index}] {what}")]
pub struct HbaError {
    index: usize,
    what: String,
}

/// What is wrong with a line of the user, as far as can be seen without PostgreSQL. Lines that end with a line break cannot
/// be smuggled in.
fn fault(line: &str) -> Option<String> {
    if line.contains(['\n', '\r', '\0']) {
        return Some("must be a single line: remove the line break".to_owned());
    }
    // Quoted names may hold blanks; such lines are PostgreSQL's to read. So are files that are included.
    if line.trim().is_empty()
        || line.trim().starts_with('#')
        || line.trim().starts_with("include")
        || line.contains(['"', '\\'])
    {
        return None;
    }
    let line = line.split('#').next().unwrap_or_default();
    let words: Vec<&str> = line.split([' ', '\t', ',']).filter(|word| !word.is_empty()).collect();
    let kind = words.first().copied().unwrap_or_default();
    if !TYPES.contains(&kind) {
        return Some(format!("begins with {kind:?}: give one of {}", TYPES.join(", ")));
    }
    let least = if kind == "local" { 4 } else { 5 };
    let method = words.iter().skip(least - 1).any(|word| METHODS.contains(word));
    (!method).then(|| {
        let form = if kind == "local" { "local DATABASE USER METHOD" } else { "host DATABASE USER ADDRESS METHOD" };
        format!("is not complete, or its method is not known: it must read {form}, with a method such as scram-sha-256")
    })
}

/// Renders `pg_hba.conf`. `tls`: the server has TLS; lines for it are errors in a server built without.
///
/// # Errors
/// When a line of the user cannot be one of that file.
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
        if let Some(what) = fault(line) {
            return Err(HbaError { index, what });
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

    #[rstest::rstest]
    #[case::plain("host app app 10.0.0.0/8 scram-sha-256", "")]
    #[case::mask("hostssl all +readers 10.0.0.0 255.0.0.0 cert map=m", "")]
    #[case::lists("host a,b c,d samenet md5 # why", "")]
    #[case::socket("local all all peer", "")]
    #[case::comment("# nothing", "")]
    #[case::quoted("host \"my db\" all all md5", "")]
    #[case::kind("hots all all all md5", "pg_hba[0] begins with \"hots\"")]
    #[case::no_address("host all all md5", "it must read host DATABASE USER ADDRESS METHOD")]
    #[case::method("host all all all scram", "its method is not known")]
    #[case::socket_with_an_address("local all all 10.0.0.0/8", "it must read local DATABASE USER METHOD")]
    fn lines_of_the_user_are_looked_at(#[case] line: &str, #[case] words: &str) {
        match render(&[line.to_owned()], true) {
            Ok(text) => assert!(words.is_empty() && text.contains(line)),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{error}"),
        }
    }

    #[test]
    fn users_are_found_by_id() {
        let passwd = "root:x:0:0::/:/bin/sh\nbad line\npostgres:x:26:26::/:/bin/sh\n";
        assert_eq!(user_name(passwd, 26), Some("postgres"));
        assert_eq!(user_name(passwd, 27), None);
        assert!(render_ident("postgres").ends_with("howdah postgres postgres\n"));
    }
}
