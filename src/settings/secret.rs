//! Texts that no log and no complaint may show.

use std::fmt;

use crate::document::nearest;

/// A text that prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The address of a server or a file, which prints without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(String);

impl Url {
    pub(super) fn fixed(text: &str) -> Url {
        Url(text.to_string())
    }

    /// Reads an address of one of these schemes. The answer never repeats what was written: it may hold a password.
    pub fn parse(text: &str, schemes: &[&str]) -> Result<Url, String> {
        let Some((scheme, rest)) = text.split_once(':') else {
            return Err(format!("expected an address {}", beginning_with(schemes)));
        };
        if !schemes.contains(&scheme) {
            let help = match nearest(scheme, schemes.iter().copied()).first() {
                Some(near) => format!("; did you mean `{near}:`?"),
                None => String::new(),
            };
            let begins = beginning_with(schemes);
            return Err(format!("expected an address {begins}{help}"));
        }
        match (scheme, rest) {
            ("lines", "") => {}
            ("lines", _) => return Err("nothing may follow `lines:`".to_string()),
            ("sqlite", "" | "//") => {
                return Err("the name of a file is missing: `sqlite:muster.db`".to_string());
            }
            ("sqlite", _) => {}
            // Of NATS servers there may be several, between commas.
            ("nats" | "tls", _) => text.split(',').try_for_each(|one| host_of(one.trim()))?,
            _ => host_of(text)?,
        }
        Ok(Url(text.to_string()))
    }

    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The host and port of the (first) server; nothing for standard input and files.
    pub fn address(&self) -> Option<(String, u16)> {
        let port = match self.scheme() {
            "amqp" => 5672,
            "amqps" => 5671,
            "nats" | "tls" => 4222,
            "postgres" | "postgresql" => 5432,
            "http" => 80,
            _ => return None,
        };
        let first = self.0.split(',').next().unwrap_or_default();
        let url = url::Url::parse(first.trim()).ok()?;
        Some((url.host_str()?.to_string(), url.port().unwrap_or(port)))
    }

    /// The whole address, password and all, for who connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn beginning_with(schemes: &[&str]) -> String {
    let quoted: Vec<String> = schemes.iter().map(|s| format!("`{s}:`")).collect();
    format!("that begins with {}", quoted.join(", "))
}

fn host_of(text: &str) -> Result<(), String> {
    match url::Url::parse(text) {
        Ok(url) if url.has_authority() => Ok(()),
        Ok(_) => Err("this address names no host: `scheme://host`".to_string()),
        Err(error) => Err(format!("this is not an address: {error}")),
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The words after which the query of an address holds a secret.
const SECRET_WORDS: [&str; 4] = ["password", "secret", "token", "passwd"];

/// The address with `***` for each password. What looks like one is hidden even where the address is odd: up to the
/// last `@` of a server everything is credentials.
fn masked(address: &str) -> String {
    let mut shown = String::new();
    for (i, part) in address.split(',').enumerate() {
        if i > 0 {
            shown.push(',');
        }
        let (plain, query) = match part.split_once('?') {
            Some((plain, query)) => (plain, Some(query)),
            None => (part, None),
        };
        shown.push_str(&masked_credentials(plain));
        if let Some(query) = query {
            shown.push('?');
            shown.push_str(&masked_query(query));
        }
    }
    shown
}

fn masked_credentials(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    match rest.rsplit_once('@') {
        None => address.to_string(),
        Some((credentials, host)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{scheme}{user}:***@{host}"),
            // On NATS a user alone is a token.
            None if matches!(scheme.as_str(), "nats://" | "tls://" | "") => {
                format!("{scheme}***@{host}")
            }
            None => format!("{scheme}{credentials}@{host}"),
        },
    }
}

fn masked_query(query: &str) -> String {
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((name, _)) if SECRET_WORDS.iter().any(|w| name.to_lowercase().contains(w)) => {
            format!("{name}=***")
        }
        _ => part.to_string(),
    });
    parts.collect::<Vec<_>>().join("&")
}
