//! Numbers by hash, in small pages that grow and shrink one at a time, so that no change moves them all. A copy costs
//! nothing.

use super::pieces::Pieces;

/// No number.
pub(crate) const NOTHING: u32 = 0;

/// Numbers by hash; a slot with number zero is free.
#[derive(Clone, Debug, Default)]
struct Page {
    slots: Vec<(u32, u32)>,
    used: usize,
}

impl Page {
    fn start(&self, hash: u32) -> usize {
        // The low bits have chosen the page.
        hash.rotate_right(20) as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> u32 {
        let start = self.start(hash);
        let (before, from) = self.slots.split_at(start.min(self.slots.len()));
        for &(known, id) in from.iter().chain(before) {
            if id == NOTHING || (known == hash && is_it(id)) {
                return id;
            }
        }
        NOTHING
    }

    fn put(&mut self, hash: u32, id: u32) {
        if self.used * 4 >= self.slots.len() * 3 {
            let size = (self.slots.len() * 2).max(8);
            self.refill(size, |_| true);
        }
        let start = self.start(hash);
        let size = self.slots.len();
        for step in 0..size {
            if let Some(slot) = self.slots.get_mut((start + step) & (size - 1))
                && slot.1 == NOTHING
            {
                *slot = (hash, id);
                self.used += 1;
                return;
            }
        }
    }

    /// Keeps what `stays`, in so many slots; answers with the rest.
    fn refill(&mut self, size: usize, stays: impl Fn(u32) -> bool) -> Vec<(u32, u32)> {
        let old = std::mem::replace(&mut self.slots, vec![(0, NOTHING); size]);
        self.used = 0;
        let mut gone = Vec::new();
        for (hash, id) in old.into_iter().filter(|(_, id)| *id != NOTHING) {
            match stays(hash) {
                true => self.put(hash, id),
                false => gone.push((hash, id)),
            }
        }
        gone
    }

    fn remove(&mut self, hash: u32, id: u32) {
        let before = self.used;
        for slot in &mut self.slots {
            if *slot == (hash, id) {
                slot.1 = NOTHING;
                self.used -= 1;
            }
        }
        if self.used < before {
            // What was pushed past the freed slot finds its way again.
            let least = (self.used * 2).next_power_of_two().max(8);
            self.refill(self.slots.len().min(least.max(8)), |_| true);
        }
    }
}

/// A page holds so many keys on average before one more page is made, and so few before one goes.
const FULL: usize = 48;
const SPARSE: usize = 16;

/// Which of some pages a hash belongs to: with one more or one less, what is on the others stays where it is, but for one.
#[inline]
pub(crate) fn page_of(hash: u32, pages: usize) -> usize {
    let size = pages.next_power_of_two();
    let page = hash as usize & (size - 1);
    if page < pages { page } else { page - size / 2 }
}

/// The page that gives half of what is on it to a new one.
pub(crate) fn page_before(new: usize) -> usize {
    new - (new + 1).next_power_of_two() / 2
}

#[derive(Clone, Debug)]
pub(crate) struct Pages {
    pages: Pieces<Page, 4>,
    count: usize,
}

impl Default for Pages {
    fn default() -> Pages {
        let mut pages = Pieces::default();
        pages.push(Page::default());
        Pages { pages, count: 0 }
    }
}

impl Pages {
    /// The number under a hash that is the right one; zero where there is none.
    #[inline]
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> u32 {
        match self.pages.get(page_of(hash, self.pages.len())) {
            Some(page) => page.find(hash, is_it),
            None => NOTHING,
        }
    }

    /// Keeps a number, which is not zero.
    pub fn put(&mut self, hash: u32, id: u32) {
        if let Some(page) = self.pages.get_mut(page_of(hash, self.pages.len())) {
            page.put(hash, id);
        }
        self.count += 1;
        if self.count > self.pages.len() * FULL {
            self.grow();
        }
    }

    pub fn remove(&mut self, hash: u32, id: u32) {
        if let Some(page) = self.pages.get_mut(page_of(hash, self.pages.len())) {
            page.remove(hash, id);
        }
        self.count = self.count.saturating_sub(1);
        if self.pages.len() > 1 && self.count < self.pages.len() * SPARSE {
            self.shrink();
        }
    }

    /// One page more, and one that gives half of its numbers to it.
    fn grow(&mut self) {
        let new = self.pages.len();
        let from = page_before(new);
        self.pages.push(Page::default());
        let pages = self.pages.len();
        let moved = match self.pages.get_mut(from) {
            Some(page) => page.refill(page.slots.len(), |hash| page_of(hash, pages) == from),
            None => Vec::new(),
        };
        if let Some(page) = self.pages.get_mut(new) {
            for (hash, id) in moved {
                page.put(hash, id);
            }
        }
    }

    fn shrink(&mut self) {
        let Some(last) = self.pages.pop() else {
            return;
        };
        let pages = self.pages.len();
        for (hash, id) in last.slots.into_iter().filter(|(_, id)| *id != NOTHING) {
            if let Some(page) = self.pages.get_mut(page_of(hash, pages)) {
                page.put(hash, id);
            }
        }
    }
}
