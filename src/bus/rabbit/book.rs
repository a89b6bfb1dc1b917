//! Which deliveries of a channel are settled.

use std::collections::BTreeSet;

/// What is to be settled on one channel.
#[derive(Default)]
pub(super) struct Settlement {
    pub(super) done: Vec<u64>,
    pub(super) again: Vec<u64>,
}

/// Which delivery tags of a channel are settled. An acknowledgement of "all up to here" is one frame for a
/// whole batch, and right only where nothing before it is still open.
#[derive(Default)]
pub(super) struct Book {
    /// Every tag up to this one is settled.
    until: u64,
    /// What is settled beyond.
    beyond: BTreeSet<u64>,
}

/// How a settlement is told to the broker.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) up_to: Option<u64>,
    pub(super) alone: Vec<u64>,
}

impl Book {
    pub(super) fn enter(&mut self, settlement: Settlement) -> Acknowledged {
        let Settlement { mut done, again } = settlement;
        done.sort_unstable();
        self.beyond.extend(done.iter().copied().chain(again));
        while self.beyond.first() == Some(&(self.until + 1)) {
            self.beyond.pop_first();
            self.until += 1;
        }
        let alone = done.split_off(done.partition_point(|tag| *tag <= self.until));
        Acknowledged {
            up_to: done.last().copied(),
            alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(book: &mut Book, done: &[u64], again: &[u64]) -> (Option<u64>, Vec<u64>) {
        let settlement = Settlement {
            done: done.to_vec(),
            again: again.to_vec(),
        };
        let Acknowledged { up_to, alone } = book.enter(settlement);
        (up_to, alone)
    }

    #[test]
    fn a_whole_batch_is_one_acknowledgement() {
        let mut book = Book::default();
        assert_eq!(enter(&mut book, &[2, 1, 3], &[]), (Some(3), vec![]));
        assert_eq!(enter(&mut book, &[4, 5], &[]), (Some(5), vec![]));
    }

    #[test]
    fn what_comes_after_an_open_delivery_is_acknowledged_alone() {
        let mut book = Book::default();
        assert_eq!(enter(&mut book, &[1, 3, 4], &[]), (Some(1), vec![3, 4]));
        // 3 and 4 are told already: naming them again would be an error that closes the channel.
        assert_eq!(enter(&mut book, &[2], &[]), (Some(2), vec![]));
        assert_eq!(enter(&mut book, &[5], &[]), (Some(5), vec![]));
    }

    #[test]
    fn what_goes_back_does_not_hold_up_the_rest() {
        let mut book = Book::default();
        assert_eq!(enter(&mut book, &[1, 3], &[2]), (Some(3), vec![]));
        assert_eq!(enter(&mut book, &[], &[4]), (None, vec![]));
        assert_eq!(enter(&mut book, &[5], &[]), (Some(5), vec![]));
    }
}
