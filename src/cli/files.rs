//! Files of declarations and cases as a command line names them: each is opened once, and what is wrong is told in the
//! order of the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::Failure;
use crate::declaration::{Declared, Kind, Sheet, Variables};
use crate::document::{Complaint, Complaints, Place, Severity, nearest};
use crate::harmless;
use crate::rehearsal::{Case, Cases, Named};
use crate::rules::Rules;
use crate::schedule::{OF_ENABLED, OF_PLUGIN};
use crate::settings::whole;

/// What some files hold.
#[derive(Default)]
pub struct Files {
    /// As they were named first.
    pub names: Vec<String>,
    pub declared: Vec<Declared>,
    pub complaints: Vec<Complaint>,
    /// With the file of each.
    pub cases: Vec<(String, Case)>,
    /// Declarations that were left out because they are wrong.
    left_out: Vec<(Kind, String)>,
    /// Some of them may have any name.
    nameless: bool,
    /// What cases name, and where.
    named: Vec<(String, Named)>,
}

impl Files {
    /// Reads what files declare; one that cannot be opened is a matter of usage.
    pub fn read(files: &[PathBuf], variables: &Variables, rules: &Rules) -> Result<Files, Failure> {
        Files::open(files, variables, rules, false)
    }

    /// Reads what files declare and the cases beside it.
    pub fn with_cases(
        files: &[PathBuf],
        variables: &Variables,
        rules: &Rules,
    ) -> Result<Files, Failure> {
        Files::open(files, variables, rules, true)
    }

    fn open(
        files: &[PathBuf],
        variables: &Variables,
        rules: &Rules,
        with_cases: bool,
    ) -> Result<Files, Failure> {
        let mut all = Files::default();
        let mut opened: BTreeSet<PathBuf> = BTreeSet::new();
        let mut from: BTreeMap<(Kind, String, String), String> = BTreeMap::new();
        for file in files {
            // The same file by another way is not another file.
            if !opened.insert(file.canonicalize().unwrap_or_else(|_| file.clone())) {
                continue;
            }
            let name = file.display().to_string();
            let sheet = Sheet::open(&name, &bytes_of(file)?, variables);
            let read = sheet.declared(rules);
            all.nameless |= read.nameless;
            all.left_out.extend(read.left_out);
            all.complaints.extend(read.complaints);
            if with_cases {
                let read = Cases::of(&sheet, rules);
                all.complaints.extend(read.complaints);
                let of = |case| (name.clone(), case);
                all.cases.extend(read.cases.into_iter().map(of));
                let of = |named| (name.clone(), named);
                all.named.extend(read.named.into_iter().map(of));
            }
            all.complaints.extend(sheet.complaints);
            for entry in read.declared {
                let key = (entry.kind, entry.organization.clone(), entry.name.clone());
                if let Some(other) = from.get(&key).filter(|other| **other != name) {
                    let (kind, called) = (entry.kind.word(), harmless::line(&entry.name));
                    all.complaints.push(Complaint::error(
                        &name,
                        entry.origin.place,
                        "",
                        format!("the {kind} `{called}` is declared in {other} too"),
                    ));
                }
                from.insert(key, name.clone());
                all.declared.push(entry);
            }
            all.names.push(name);
        }
        all.sort();
        Ok(all)
    }

    /// Complains about more, each in its place among the others.
    pub fn complain(&mut self, more: impl IntoIterator<Item = Complaint>) {
        self.complaints.extend(more);
        self.sort();
    }

    /// By file, and in a file from its beginning; what stands nowhere comes last.
    fn sort(&mut self) {
        let names = &self.names;
        let key = |complaint: &Complaint| {
            let file = names.iter().position(|name| *name == complaint.file);
            let nowhere = Place {
                line: u32::MAX,
                column: u32::MAX,
            };
            let place = complaint.place.unwrap_or(nowhere);
            (file.unwrap_or(names.len()), place)
        };
        self.complaints.sort_by_key(key);
    }

    /// Whether there is a declaration of that name among these files that is only wrong: then nothing follows from its
    /// not being there.
    pub fn is_left_out(&self, kind: Kind, name: &str) -> bool {
        self.nameless || self.wrong(kind).any(|wrong| wrong == name)
    }

    /// Plugins and schedules that cases name and these files do not declare, each where it is named first: such a case
    /// could not come true, or would for a wrong reason. Where the files declare none of the kind, what does may be
    /// elsewhere.
    pub fn unknown(&self, elsewhere: Severity) -> Vec<Complaint> {
        let mut found: BTreeMap<(Kind, &str), (&String, &Named, usize)> = BTreeMap::new();
        for (file, named) in &self.named {
            if !self.is_known(named) {
                let first = (file, named, 0);
                let seen = found
                    .entry((named.kind, named.name.as_str()))
                    .or_insert(first);
                seen.2 += 1;
            }
        }
        let complaint =
            |((kind, name), (file, named, many)): ((Kind, &str), (&String, &Named, usize))| {
                let known: Vec<&str> = self.of(kind).chain(self.wrong(kind)).collect();
                let mut complaints = Complaints::new(file.as_str());
                let meant = match nearest(name, known.iter().copied()).as_slice() {
                    [] => String::new(),
                    near => format!("; did you mean {}?", near.join(" or ")),
                };
                let again = match many {
                    1 => String::new(),
                    many => format!(" (named {many} times)"),
                };
                let kind = kind.word();
                let message = format!("these files declare no {kind} `{name}`{meant}{again}");
                match (known.is_empty(), elsewhere) {
                    (true, Severity::Warning) => {
                        complaints.warning(named.place, &named.path, message)
                    }
                    _ => complaints.error(named.place, &named.path, message),
                }
                complaints.into_vec()
            };
        found.into_iter().flat_map(complaint).collect()
    }

    fn is_known(&self, named: &Named) -> bool {
        let Named { kind, name, .. } = named;
        let of_plugin = [OF_PLUGIN, OF_ENABLED]
            .into_iter()
            .any(|prefix| *kind == Kind::Schedule && name.starts_with(prefix));
        of_plugin || self.of(*kind).any(|known| known == name) || self.is_left_out(*kind, name)
    }

    fn wrong(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of = self.left_out.iter().filter(move |(of, _)| *of == kind);
        of.map(|(_, name)| name.as_str())
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let of = self.declared.iter().filter(move |entry| entry.kind == kind);
        of.map(|entry| entry.name.as_str())
    }
}

/// The bytes of a file, or of standard input.
pub fn bytes_of(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = match file == Path::new("-") {
        true => whole(std::io::stdin().lock()),
        false => std::fs::File::open(file).and_then(whole),
    };
    read.map_err(|error| Failure::of_file(file, &error))
}
