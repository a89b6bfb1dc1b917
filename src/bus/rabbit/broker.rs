//! Where the broker is, and how to get in.

use std::fmt;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use tokio::time::timeout;

use super::{ACCESS_REFUSED, CONNECT, NOT_ALLOWED, code, said};
use crate::bus::BusError;

/// A dead peer is noticed after two of these, where the URL does not say `heartbeat=`.
const HEARTBEAT_SECONDS: u16 = 15;

/// Where the broker is. Shown without the credentials.
pub(super) struct Broker {
    uri: AMQPUri,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AMQPUri {
            scheme,
            authority,
            vhost,
            ..
        } = &self.uri;
        write!(
            f,
            "{scheme}://{}:{} (vhost `{vhost}`)",
            authority.host, authority.port
        )
    }
}

impl Broker {
    pub(super) fn parse(text: &str) -> Result<Broker, BusError> {
        // No text of a parser here: it may quote the URL, and the URL holds the password.
        let refuse = |why: &str| Err(BusError::Address(format!("the URL of the broker {why}")));
        let Ok(url) = url::Url::parse(text) else {
            return refuse("cannot be understood; write it as amqp://user:password@host:5672/%2f");
        };
        if !matches!(url.scheme(), "amqp" | "amqps") {
            return refuse(&format!(
                "has the scheme `{}`, not amqp or amqps",
                url.scheme()
            ));
        }
        let Ok(mut uri) = text.parse::<AMQPUri>() else {
            return refuse("has a part that cannot be understood");
        };
        // The parser of the client takes every host that is not a name for `localhost`.
        match url.host() {
            Some(url::Host::Ipv6(address)) => uri.authority.host = address.to_string(),
            Some(_) => {}
            None => return refuse("names no host"),
        }
        // By the letter a lone slash is a virtual host without a name; everybody means the default one.
        if uri.vhost.is_empty() {
            uri.vhost = "/".to_owned();
        }
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Broker { uri })
    }

    pub(super) async fn connect(&self) -> Result<Connection, BusError> {
        let properties = ConnectionProperties::default().with_connection_name("muster".into());
        let connection = Connection::connect_uri(self.uri.clone(), properties);
        let error = match timeout(CONNECT, connection).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error,
            Err(_) => return Err(BusError::OutOfReach(format!("no answer from {self}"))),
        };
        let text = format!("{self}: {}", said(&error));
        // A virtual host that is still starting is refused with the same code as one that does not exist.
        let starting = text.contains("is down");
        Err(match code(&error) {
            Some(ACCESS_REFUSED | NOT_ALLOWED) if !starting => BusError::Refused(text),
            _ => BusError::OutOfReach(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_understood_or_refused_without_showing_the_password() {
        let understood = |text: &str| Broker::parse(text).map(|broker| broker.to_string());
        assert_eq!(
            understood("amqp://me:hush@rabbit:5673/%2f").as_deref(),
            Ok("amqp://rabbit:5673 (vhost `/`)")
        );
        assert_eq!(
            understood("amqps://me:hush@[::1]/").as_deref(),
            Ok("amqps://::1:5671 (vhost `/`)")
        );
        for wrong in [
            "http://me:hush@rabbit/",
            "amqp:me:hush@rabbit",
            "amqp://me:hush@rabbit:99999/",
            "amqp://me:hush@rabbit/?heartbeat=hush",
            "amqp://me:hush%ff@rabbit/",
            "me:hush@rabbit",
            "",
        ] {
            let refusal = understood(wrong).expect_err(wrong).to_string();
            assert!(!refusal.contains("hush"), "{refusal}");
        }
    }
}
