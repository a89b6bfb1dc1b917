//! Rules and events as a house with many tenants has them: seeded, so the same each time.

use serde_json::{Map, Value, json};

/// A source of numbers that look like chance (splitmix64).
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn of(seed: u64) -> Chance {
        Chance(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    pub fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.part() * end as f64) as usize
    }

    pub fn yes(&mut self, often: f64) -> bool {
        self.part() < often
    }
}

/// Numbers from 0, each with its share.
#[derive(Clone)]
struct Shares(Vec<f64>);

impl Shares {
    fn of(shares: impl IntoIterator<Item = f64>) -> Shares {
        let mut sum = 0.0;
        let sums: Vec<f64> = shares
            .into_iter()
            .map(|share| {
                sum += share;
                sum
            })
            .collect();
        Shares(sums.into_iter().map(|part| part / sum).collect())
    }

    /// The first are the most common.
    fn zipf(count: usize, power: f64) -> Shares {
        Shares::of((1..=count).map(|rank| 1.0 / (rank as f64).powf(power)))
    }

    fn one(&self, chance: &mut Chance) -> usize {
        let part = chance.part();
        self.0.partition_point(|sum| *sum <= part)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// What every engine can say.
    Core,
    /// Text operators, None and `not` besides.
    Full,
}

#[derive(Clone)]
pub struct Workload {
    pub rules: usize,
    tenants: usize,
    hosts: usize,
    mix: Mix,
    /// Of an asn window, as a part of all.
    width: f64,
    types: Shares,
    sources: Shares,
    countries: Shares,
    tags: Shares,
    kinds: Shares,
    /// Events come from few tenants and types only, as in a sample that misleads.
    pub skewed: bool,
}

/// How often each further predicate stands in a rule, beside the others: operation, scan_level, source, port, severity,
/// country, tags, oci_arguments, active. So an event has seven to eight matches at any number of rules.
const FURTHER: [f64; 9] = [3.5, 4.5, 2.0, 1.0, 4.5, 1.0, 0.6, 0.6, 2.0];
const OPERATIONS: [&str; 3] = ["create", "update", "delete"];
const ARGUMENTS: usize = 24;

/// A condition in both languages.
struct Said {
    ours: String,
    theirs: String,
}

impl Said {
    fn same(text: String) -> Said {
        Said {
            theirs: text.replace("geo.", "geo_").replace('\'', "\""),
            ours: text,
        }
    }

    fn join(parts: Vec<Said>, word: &str) -> Said {
        let ours: Vec<String> = parts.iter().map(|part| part.ours.clone()).collect();
        let theirs: Vec<String> = parts.into_iter().map(|part| part.theirs).collect();
        Said {
            ours: format!("({})", ours.join(word)),
            theirs: format!("({})", theirs.join(word)),
        }
    }
}

impl Workload {
    /// `lin`: fifty tenants whatever the number of rules, so that matches grow with them.
    pub fn new(rules: usize, mix: Mix, lin: bool) -> Workload {
        Workload {
            rules,
            tenants: if lin { 50 } else { (rules / 200).max(1) },
            hosts: rules.max(1_000),
            mix,
            width: if lin {
                0.01
            } else {
                10.0 / rules.max(1_000) as f64
            },
            types: Shares::zipf(40, 1.0),
            sources: Shares::zipf(200, 0.9),
            countries: Shares::zipf(60, 1.0),
            tags: Shares::zipf(500, 0.8),
            kinds: Shares::of(FURTHER),
            skewed: false,
        }
    }

    /// The texts of a rule: ours, and that of a-tree.
    pub fn rule(&self, number: usize) -> (String, String) {
        let mut chance = Chance::of(0x5eed ^ (number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d));
        if self.mix == Mix::Full
            && let Some(text) = self.text_only(number, &mut chance)
        {
            return (text, String::new());
        }
        let said = match chance.yes(0.1) {
            true => {
                let both = vec![self.conjunction(&mut chance), self.conjunction(&mut chance)];
                Said::join(both, " or ")
            }
            false => self.conjunction(&mut chance),
        };
        let trim = |text: String| text[1..text.len() - 1].to_owned();
        (trim(said.ours), trim(said.theirs))
    }

    fn text_only(&self, number: usize, chance: &mut Chance) -> Option<String> {
        let every = (self.rules / 20).max(1);
        if number.is_multiple_of(every) {
            let source = chance.below(50);
            return Some(format!(
                "source != 'source-{source}' and not (scan_level >= 1) and severity < 5"
            ));
        }
        // So many digits of a host's number that an event has about eight of these rules at any number of them, and twice
        // as many matches as without.
        let hosts = self.hosts.ilog10() as usize;
        let digits = hosts.saturating_sub(3).max(1);
        chance.yes(0.008).then(|| {
            let host = format!("{:07}", chance.below(self.hosts));
            let (first, last) = (&host[..7 - hosts + digits], &host[7 - digits..]);
            match chance.below(3) {
                0 => format!("hostname startswith 'host{first}'"),
                1 => format!("hostname ~ '{last}.exa'"),
                _ => format!("hostname endswith '{last}.example.com'"),
            }
        })
    }

    fn conjunction(&self, chance: &mut Chance) -> Said {
        let mut parts = Vec::new();
        match chance.part() {
            part if part < 0.8 => {
                parts.push(Said::same(format!(
                    "type = 'type-{}'",
                    self.types.one(chance)
                )));
            }
            part if part < 0.95 => {
                let (a, b) = (self.types.one(chance), self.types.one(chance));
                parts.push(among("type", &[format!("type-{a}"), format!("type-{b}")]));
            }
            _ => {}
        }
        parts.push(match chance.part() {
            part if part < 0.70 => Said::same(format!(
                "organization = 'org-{:05}'",
                chance.below(self.tenants)
            )),
            part if part < 0.75 => {
                Said::same(format!("hostname = '{}'", host(chance.below(self.hosts))))
            }
            part if part < 0.80 => {
                let ids: Vec<String> = (0..2 + chance.below(2))
                    .map(|_| object_id(chance.below(10 * self.rules)))
                    .collect();
                among("object_id", &ids)
            }
            part if part < 0.92 => {
                let organizations: Vec<String> = (0..3 + chance.below(4))
                    .map(|_| format!("org-{:05}", chance.below(self.tenants)))
                    .collect();
                among("organization", &organizations)
            }
            _ => {
                let width = ((self.width * ASNS as f64) as usize).max(1);
                let from = chance.below(ASNS);
                Said::same(format!("geo.asn >= {from} and geo.asn < {}", from + width))
            }
        });
        for _ in 0..1 + chance.below(3) {
            parts.push(self.further(chance));
        }
        if chance.yes(0.25) {
            let either = vec![self.further(chance), self.further(chance)];
            parts.push(Said::join(either, " or "));
        }
        // In any order.
        for last in (1..parts.len()).rev() {
            parts.swap(last, chance.below(last + 1));
        }
        Said::join(parts, " and ")
    }

    fn further(&self, chance: &mut Chance) -> Said {
        if self.mix == Mix::Full && chance.yes(0.2) {
            return Said::same(match chance.below(6) {
                0 => format!("hostname ~ '{:02}'", chance.below(100)),
                1 => format!("hostname not startswith 'host{}'", chance.below(10)),
                2 => format!("hostname endswith '{}.example.com'", chance.below(10)),
                3 => "expires = None".to_owned(),
                4 => "port != None".to_owned(),
                _ => format!("not (source = 'source-{}')", self.sources.one(chance)),
            });
        }
        match self.kinds.one(chance) {
            0 => Said::same(format!("operation = '{}'", operation(chance))),
            1 => Said::same(format!("scan_level >= {}", 1 + chance.below(4))),
            2 => {
                let some: Vec<String> = (0..1 + chance.below(4))
                    .map(|_| format!("source-{}", self.sources.one(chance)))
                    .collect();
                match chance.below(3) {
                    0 => Said::same(format!("source = '{}'", some[0])),
                    1 => among("source", &some),
                    _ => {
                        let said = among("source", &some);
                        Said {
                            ours: said.ours.replace(" in ", " not in "),
                            theirs: said.theirs.replace(" in ", " not in "),
                        }
                    }
                }
            }
            3 => match chance.yes(0.6) {
                true => Said::same(format!("port = {}", PORTS[chance.below(PORTS.len())])),
                false => Said::same("port >= 1 and port < 1024".to_owned()),
            },
            4 => Said::same(format!("severity >= {}", chance.below(700))),
            5 => Said::same(format!("geo.country = 'C{}'", self.countries.one(chance))),
            6 => {
                let tag = self.tags.one(chance);
                Said {
                    ours: format!("'tag-{tag}' in tags"),
                    theirs: format!("tags one of [\"tag-{tag}\"]"),
                }
            }
            7 => {
                let argument = chance.below(ARGUMENTS);
                Said {
                    ours: format!("'{{argument{argument}}}' in oci_arguments"),
                    theirs: format!("oci_arguments one of [\"{{argument{argument}}}\"]"),
                }
            }
            _ => {
                let truth = chance.yes(0.5);
                Said {
                    ours: format!("active = {}", if truth { "True" } else { "False" }),
                    theirs: if truth { "active" } else { "not active" }.to_owned(),
                }
            }
        }
    }

    /// An event, as an object of JSON.
    pub fn event(&self, number: usize) -> Map<String, Value> {
        let mut chance = Chance::of(0xe7e7 ^ (number as u64).wrapping_mul(0x9e6c_63d0_876a_3f6b));
        let chance = &mut chance;
        let tenants = if self.skewed {
            (self.tenants / 100).max(1)
        } else {
            self.tenants
        };
        let kind = match self.skewed {
            true => 39 - self.types.one(chance),
            false => self.types.one(chance),
        };
        let some_tags: Vec<String> = (0..1 + chance.below(5))
            .map(|_| format!("tag-{}", self.tags.one(chance)))
            .collect();
        let mut event = json!({
            "type": format!("type-{kind}"),
            "operation": operation(chance),
            "organization": format!("org-{:05}", chance.below(tenants)),
            "object_id": object_id(chance.below(10 * self.rules)),
            "source": format!("source-{}", self.sources.one(chance)),
            "scan_level": chance.below(5),
            "hostname": host(chance.below(self.hosts)),
            "severity": (chance.part().powi(2) * 1000.0) as i64,
            "active": chance.yes(0.5),
            "expires": Value::Null,
            "geo": {},
            "tags": some_tags,
            "note": "what nobody asks about, and is passed over",
        });
        if chance.yes(0.8) {
            event["port"] = json!(PORTS[chance.below(PORTS.len())]);
        }
        if chance.yes(0.5) {
            event["expires"] = json!(format!("2027-0{}-11T00:00:00Z", 1 + chance.below(9)));
        }
        if chance.yes(0.8) {
            event["geo"]["country"] = json!(format!("C{}", self.countries.one(chance)));
        }
        if chance.yes(0.8) {
            event["geo"]["asn"] = json!(chance.below(ASNS));
        }
        if chance.yes(0.7) {
            let some: Vec<String> = (0..1 + chance.below(3))
                .map(|_| format!("{{argument{}}}", chance.below(ARGUMENTS)))
                .collect();
            event["oci_arguments"] = json!(some);
        }
        match event {
            Value::Object(map) => map,
            _ => unreachable!("it was made as an object"),
        }
    }
}

const ASNS: usize = 4_000_000;
const PORTS: [u32; 20] = [
    21, 22, 23, 25, 53, 80, 110, 143, 161, 389, 443, 445, 993, 1433, 3306, 3389, 5432, 6379, 8080,
    8443,
];

fn operation(chance: &mut Chance) -> &'static str {
    match chance.part() {
        part if part < 0.5 => OPERATIONS[0],
        part if part < 0.9 => OPERATIONS[1],
        _ => OPERATIONS[2],
    }
}

fn host(number: usize) -> String {
    format!("host{number:07}.example.com")
}

fn object_id(number: usize) -> String {
    format!("object-{number:09}")
}

fn among(field: &str, items: &[String]) -> Said {
    let single: Vec<String> = items.iter().map(|item| format!("'{item}'")).collect();
    let double: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    Said {
        ours: format!("{field} in ({})", single.join(", ")),
        theirs: format!("{field} in [{}]", double.join(", ")),
    }
}
