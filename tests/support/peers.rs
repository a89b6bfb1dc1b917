//! Who reads muster's metrics: a push gateway, a node exporter and a Prometheus, each on a free port of 127.0.0.1 with a
//! temporary folder of its own.

#![allow(dead_code)] // each test binary uses a part of it

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use super::servers::{Folder, Server, command, free_port};

/// The body of what `http://127.0.0.1:port/path` answers with 200; nothing where nobody answers, or something else.
pub fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // Of version 1.0, so that the answer comes in one piece and ends with the connection.
    let request = format!("GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let fine = head.split_ascii_whitespace().nth(1) == Some("200");
    fine.then(|| body.to_owned())
}

/// Prometheus' push gateway.
pub struct Pushgateway {
    server: Server,
}

impl Pushgateway {
    pub fn start() -> Pushgateway {
        let port = free_port();
        let recipe = move || {
            let mut gateway = command("prometheus-pushgateway", "prometheus-pushgateway", None);
            gateway.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            gateway
        };
        Pushgateway {
            server: Server::start(
                Folder::new("gateway"),
                port,
                "TLS is disabled",
                Box::new(recipe),
            ),
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// What was pushed, as Prometheus reads it.
    pub fn metrics(&self) -> Option<String> {
        get(self.port(), "/metrics")
    }

    pub fn kill(&mut self) {
        self.server.kill();
    }

    pub fn restart(&mut self) {
        self.server.restart();
    }
}

/// A node exporter that reads the metrics files of one folder, and tells of itself too, as it does wherever nobody
/// forbids it.
pub struct NodeExporter {
    server: Server,
}

impl NodeExporter {
    pub fn of(files: &Path) -> NodeExporter {
        let port = free_port();
        let files = files.to_owned();
        let recipe = move || {
            let mut exporter =
                command("prometheus-node-exporter", "prometheus-node-exporter", None);
            exporter
                .args(["--collector.disable-defaults", "--collector.textfile"])
                .arg(format!(
                    "--collector.textfile.directory={}",
                    files.display()
                ))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            exporter
        };
        NodeExporter {
            server: Server::start(
                Folder::new("exporter"),
                port,
                "TLS is disabled",
                Box::new(recipe),
            ),
        }
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    pub fn metrics(&self) -> Option<String> {
        get(self.port(), "/metrics")
    }

    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// Prometheus, with the alerts of `config/`.
pub struct Prometheus {
    server: Server,
}

impl Prometheus {
    /// Reads from whoever listens on these ports, five times a second.
    pub fn of(targets: &[(&str, u16)]) -> Prometheus {
        let folder = Folder::new("prometheus");
        let port = free_port();
        let mut settings = String::from(
            "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}\n\
             rule_files: [alerts.yaml]\nscrape_configs:\n",
        );
        for (job, port) in targets {
            settings.push_str(&format!(
                "- {{job_name: {job}, honor_labels: true, static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]}}\n"
            ));
        }
        let path = folder.path().join("prometheus.yaml");
        fs::write(&path, settings).expect("write prometheus.yaml");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/prometheus/alerts.yaml");
        fs::copy(rules, folder.path().join("alerts.yaml")).expect("copy the alerts");
        let data = folder.path().join("data");
        let recipe = move || {
            let mut prometheus = command("prometheus", "prometheus", None);
            prometheus
                .arg(format!("--config.file={}", path.display()))
                .arg(format!("--storage.tsdb.path={}", data.display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            prometheus
        };
        Prometheus {
            server: Server::start(
                folder,
                port,
                "Server is ready to receive web requests",
                Box::new(recipe),
            ),
        }
    }

    /// What it answers to a query now: each series with its labels and its value.
    pub fn ask(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let encoded: String = query
            .bytes()
            .map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let answer = get(
            self.server.port(),
            &format!("/api/v1/query?query={encoded}"),
        );
        let answer = answer.ok_or_else(|| format!("`{query}` is no query"))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let found = answer["data"]["result"].as_array().cloned();
        let series = found.unwrap_or_default().into_iter().map(|series| {
            let value = series["value"][1]
                .as_str()
                .and_then(|text| text.parse().ok());
            (series["metric"].clone(), value.unwrap_or(f64::NAN))
        });
        Ok(series.collect())
    }

    /// Alerts that it knows, whether they fire or not.
    pub fn alerts(&self) -> Vec<String> {
        let answer = get(self.server.port(), "/api/v1/rules").unwrap_or_default();
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let groups = answer["data"]["groups"].as_array().cloned();
        let rules = groups.unwrap_or_default().into_iter();
        rules
            .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
            .filter(|rule| rule["health"] == "ok")
            .filter_map(|rule| rule["name"].as_str().map(str::to_owned))
            .collect()
    }
}
