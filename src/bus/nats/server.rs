//! Where the servers are, and how to get in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tracing::{debug, warn};

use super::ANSWER;
use crate::bus::BusError;
use crate::bus::link::End;

/// Where the servers are. Shown without the credentials.
pub(super) struct Server {
    addresses: Vec<ServerAddr>,
    credentials: Credentials,
    shown: String,
}

#[derive(Clone)]
enum Credentials {
    None,
    Token(String),
    User(String, String),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Server {
    pub(super) fn parse(text: &str) -> Result<Server, BusError> {
        // No text of a parser here: it may quote the URL, and the URL holds the password.
        let refuse = |why: &str| Err(BusError::Address(format!("the URL of the broker {why}")));
        let mut server = Server {
            addresses: Vec::new(),
            credentials: Credentials::None,
            shown: String::new(),
        };
        for part in text.split(',').map(str::trim) {
            let Ok(mut url) = url::Url::parse(part) else {
                return refuse("cannot be understood; write it as nats://user:password@host:4222");
            };
            if !matches!(url.scheme(), "nats" | "tls") {
                return refuse(&format!(
                    "has the scheme `{}`, not nats or tls",
                    url.scheme()
                ));
            }
            if url.host_str().is_none_or(str::is_empty) {
                return refuse("names no host");
            }
            if matches!(server.credentials, Credentials::None) {
                let Some(user) = decoded(url.username()) else {
                    return refuse("has a user name that is not UTF-8");
                };
                server.credentials = match url.password().map(decoded) {
                    Some(None) => return refuse("has a password that is not UTF-8"),
                    Some(Some(password)) => Credentials::User(user, password),
                    None if user.is_empty() => Credentials::None,
                    None => Credentials::Token(user),
                };
            }
            if url.set_username("").is_err() || url.set_password(None).is_err() {
                return refuse("cannot be understood");
            }
            url.set_query(None);
            let Ok(address) = ServerAddr::from_url(url) else {
                return refuse("cannot be understood");
            };
            let comma = if server.shown.is_empty() { "" } else { "," };
            let (scheme, host, port) = (address.scheme(), address.host(), address.port());
            server
                .shown
                .push_str(&format!("{comma}{scheme}://{host}:{port}"));
            server.addresses.push(address);
        }
        Ok(server)
    }

    pub(super) async fn connect(&self, end: &Arc<End>) -> Result<Client, BusError> {
        let told = Arc::clone(end);
        let options = match self.credentials.clone() {
            Credentials::None => ConnectOptions::new(),
            Credentials::Token(token) => ConnectOptions::with_token(token),
            Credentials::User(user, password) => {
                ConnectOptions::with_user_and_password(user, password)
            }
        };
        let connected = options
            .name("muster")
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .ping_interval(Duration::from_secs(15))
            // Our own loop connects again: it declares again too, and it knows what it owes.
            .max_reconnects(1)
            .event_callback(move |event| {
                let told = Arc::clone(&told);
                async move {
                    match event {
                        Event::Disconnected | Event::Closed => {
                            told.come("the connection ended".to_owned());
                        }
                        Event::LameDuckMode => told.come("the server is going down".to_owned()),
                        Event::ServerError(error) => warn!(%error, "the broker complains"),
                        other => debug!(%other, "of the connection"),
                    }
                }
            })
            .connect(self.addresses.as_slice())
            .await;
        connected.map_err(|error| {
            let text = format!("{self}: {error}");
            match error.kind() {
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Authentication
                | ConnectErrorKind::AuthorizationViolation => BusError::Refused(text),
                _ => BusError::OutOfReach(text),
            }
        })
    }
}

/// A part of a URL without its percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_understood_or_refused_without_showing_the_password() {
        let understood = |text: &str| Server::parse(text).map(|server| server.to_string());
        assert_eq!(
            understood("nats://me:hush@a").as_deref(),
            Ok("nats://a:4222")
        );
        assert_eq!(
            understood("tls://hush@a:1,tls://[::1]:2").as_deref(),
            Ok("tls://a:1,tls://::1:2")
        );
        for wrong in [
            "http://me:hush@a/",
            "nats:me:hush@a",
            "nats://me:hush@a:99999",
            "nats://me:hush%ff@a",
            "nats://me:hush@",
            "nats://a,me:hush@b",
            "me:hush@a",
            "",
        ] {
            let refusal = understood(wrong).expect_err(wrong).to_string();
            assert!(!refusal.contains("hush"), "{refusal}");
        }
    }

    #[test]
    fn credentials_are_read_to_the_letter() {
        assert_eq!(decoded("a%40b%3Ac+d").as_deref(), Some("a@b:c+d"));
        assert_eq!(decoded("100%").as_deref(), Some("100%"));
        assert_eq!(decoded("%zz%4").as_deref(), Some("%zz%4"));
        assert_eq!(decoded("%ff"), None);
    }
}
