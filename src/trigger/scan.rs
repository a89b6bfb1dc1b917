//! Every rule tried one after another, compiled as the index compiles it: the plain way, against which the index is
//! judged.

use super::event::{Asking, Event};
use super::formula::{Asked, Formula};
use super::picture::{Matches, Picture};
use super::program::{Verdict, run};
use super::register::Register;

#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// Only for the numbers of attributes and constants.
    register: Register,
    rules: Vec<(u32, usize)>,
    code: Vec<u32>,
}

impl Scan {
    pub fn new() -> Scan {
        Scan::default()
    }

    pub fn insert(&mut self, rule: u32, asked: &Asked) {
        let formula = Formula::of(asked);
        if !matches!(formula, Formula::Constant(false)) {
            self.code.extend(self.register.compile(&formula));
            self.rules.push((rule, self.code.len()));
        }
    }

    /// What events are read with.
    pub fn picture(&self) -> Picture {
        self.register.picture()
    }

    pub fn find(&self, picture: &Picture, event: &mut Event, matches: &mut Matches) {
        matches.clear();
        let large = event.is_large();
        picture.look_up(event, 0, &mut Vec::new());
        let mut asking = Asking { picture, event };
        let mut start = 0;
        for (rule, end) in &self.rules {
            let verdict = run(self.code.get(start..*end).unwrap_or(&[]), &mut asking);
            start = *end;
            if verdict != Verdict::No {
                matches
                    .rules
                    .push((*rule, large || verdict == Verdict::Ask));
            }
        }
        matches.candidates = self.rules.len();
        matches.checks = self.rules.len();
    }
}
