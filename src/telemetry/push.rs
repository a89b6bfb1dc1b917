//! Prometheus' push gateway: one `PUT` over plain HTTP/1.1, written here because it is all the HTTP that there is.

use std::fmt;
use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::{Host, Url};

/// How long a push may take as a whole; the end of the service waits for one.
const PUSH_TIME_OUT: Duration = Duration::from_secs(5);

/// How long the reason of a refusal is waited for, once the refusal itself is there.
const REASON_TIME_OUT: Duration = Duration::from_millis(500);

/// The longest answer that is looked at.
const LONGEST_ANSWER: usize = 16 * 1024;

/// A push gateway and the place there for one job and instance. Its texts never show the credentials.
#[derive(Clone)]
pub struct PushGateway {
    /// As it is connected to.
    host: String,
    port: u16,
    /// As it is called, with the port where that is not 80.
    authority: String,
    target: String,
    authorization: Option<String>,
}

impl PushGateway {
    /// Reads the address of a gateway, `http://[user:password@]host[:port][/path]`.
    pub fn parse(address: &str, job: &str, instance: &str) -> anyhow::Result<PushGateway> {
        // The address itself is not repeated: it may hold a password.
        let url = Url::parse(address).context("the address of the push gateway is not a URL")?;
        match url.scheme() {
            "http" => {}
            "https" => bail!(
                "metrics are pushed over http:// only, not https://; put a local proxy between, or use metrics.file"
            ),
            other => bail!("metrics are pushed over http://, not {other}://"),
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => bail!("the address of the push gateway names no host"),
        };
        if url.query().is_some() || url.fragment().is_some() {
            bail!("the address of the push gateway must end after its path");
        }
        let called = url.host_str().unwrap_or_default();
        let authority = match url.port() {
            Some(port) => format!("{called}:{port}"),
            None => called.to_owned(),
        };
        let mut target = url.path().trim_end_matches('/').to_owned();
        target.push_str("/metrics");
        for (label, value) in [("job", job), ("instance", instance)] {
            push_label(&mut target, label, value);
        }
        let user = percent_decoded(url.username());
        let password = url.password().map(percent_decoded).unwrap_or_default();
        let anonymous = user.is_empty() && password.is_empty();
        let authorization = (!anonymous).then(|| {
            let both = [user.as_slice(), b":", password.as_slice()].concat();
            format!("Basic {}", base64(&both, STANDARD))
        });
        Ok(PushGateway {
            host,
            port: url.port_or_known_default().unwrap_or(80),
            authority,
            target,
            authorization,
        })
    }

    /// Replaces what this job and instance put there before.
    pub(super) async fn put(&self, text: &[u8]) -> anyhow::Result<()> {
        match timeout(PUSH_TIME_OUT, self.request(text)).await {
            Ok(answer) => answer,
            Err(_) => bail!("{self} did not answer within {} s", PUSH_TIME_OUT.as_secs()),
        }
    }

    async fn request(&self, text: &[u8]) -> anyhow::Result<()> {
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let mut stream = connected.with_context(|| format!("{self} is out of reach"))?;
        let mut head = format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: muster/{}\r\n",
            self.target,
            self.authority,
            env!("CARGO_PKG_VERSION")
        );
        head.push_str("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n");
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        head.push_str(&format!(
            "Content-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        ));
        let request = [head.as_bytes(), text].concat();
        let sent = stream.write_all(&request).await;
        // Who refuses a request may answer before all of it is there, and close; the answer then says more.
        let answer = read_answer(&mut stream).await;
        let status = answer.as_deref().ok().and_then(status_of);
        match (status, sent, answer) {
            (Some(status), ..) if is_success(status) => Ok(()),
            (Some(status), _, Ok(answer)) => bail!("{self} answered {status}{}", said_in(&answer)),
            (_, Err(error), _) | (_, _, Err(error)) => {
                Err(error).with_context(|| format!("{self} broke off"))
            }
            (None, Ok(()), Ok(_)) => bail!("{self} did not answer in HTTP"),
        }
    }
}

impl fmt::Display for PushGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the push gateway at http://{}", self.authority)
    }
}

impl fmt::Debug for PushGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushGateway")
            .field("authority", &self.authority)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Reads to the end of the answer, or of its head where it says that all is well.
async fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    while answer.len() < LONGEST_ANSWER {
        let read = match status_of(&answer) {
            Some(status) if is_success(status) => break,
            // A refusal is told also where the rest of it does not come.
            Some(_) => match timeout(REASON_TIME_OUT, stream.read(&mut part)).await {
                Ok(Ok(read)) => read,
                Ok(Err(_)) | Err(_) => break,
            },
            None => stream.read(&mut part).await?,
        };
        if read == 0 {
            break;
        }
        answer.extend_from_slice(part.get(..read).unwrap_or_default());
    }
    Ok(answer)
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// The number in `HTTP/1.1 202 Accepted`, once the line is complete.
fn status_of(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut words = line.split_ascii_whitespace();
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

/// The first line of what an answer says in its body.
fn said_in(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let line: String = body
        .trim()
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(200)
        .collect();
    if line.is_empty() {
        line
    } else {
        format!(": {line}")
    }
}

/// One label of a grouping key. What a path cannot hold as it is goes in base64, as the gateway's interface has it.
fn push_label(target: &mut String, label: &str, value: &str) {
    if value.is_empty() || value.contains('/') {
        let encoded = base64(value.as_bytes(), URL_SAFE);
        // The interface wants at least one character.
        let encoded = if encoded.is_empty() {
            "="
        } else {
            encoded.as_str()
        };
        target.push_str(&format!("/{label}@base64/{encoded}"));
        return;
    }
    target.push_str(&format!("/{label}/"));
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                target.push(char::from(byte));
            }
            _ => target.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let pair = after
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let decoded = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, decoded) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

const STANDARD: [char; 2] = ['+', '/'];
const URL_SAFE: [char; 2] = ['-', '_'];

/// Encodes as RFC 4648 has it, with padding.
fn base64(bytes: &[u8], last_two: [char; 2]) -> String {
    let digit = |bits: u32| match (bits & 63) as u8 {
        value @ 0..=25 => char::from(b'A' + value),
        value @ 26..=51 => char::from(b'a' + value - 26),
        value @ 52..=61 => char::from(b'0' + value - 52),
        62 => last_two[0],
        _ => last_two[1],
    };
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(digit(bits >> (18 - 6 * place)));
            } else {
                text.push('=');
            }
        }
    }
    text
}
