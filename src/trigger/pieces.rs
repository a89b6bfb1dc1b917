//! A list in pieces that are shared until they change: a copy costs nothing, a change of one place copies the few
//! pieces on the way to it. So a reader keeps the list as it was while a writer goes on.

use std::sync::Arc;

/// How many pieces stand under one.
const FAN: usize = 32;
const FAN_BITS: u32 = FAN.trailing_zeros();

/// `LEAF` neighbours lie together; a power of two.
#[derive(Debug)]
pub(crate) struct Pieces<T, const LEAF: usize> {
    root: Option<Arc<Piece<T>>>,
    /// How often one has to step down from the root to the neighbours.
    height: u32,
    len: usize,
}

#[derive(Debug)]
enum Piece<T> {
    Over(Vec<Arc<Piece<T>>>),
    Leaf(Vec<T>),
}

impl<T: Clone> Clone for Piece<T> {
    fn clone(&self) -> Piece<T> {
        match self {
            Piece::Over(under) => Piece::Over(under.clone()),
            Piece::Leaf(items) => Piece::Leaf(items.clone()),
        }
    }
}

impl<T, const LEAF: usize> Clone for Pieces<T, LEAF> {
    fn clone(&self) -> Pieces<T, LEAF> {
        Pieces {
            root: self.root.clone(),
            height: self.height,
            len: self.len,
        }
    }
}

impl<T, const LEAF: usize> Default for Pieces<T, LEAF> {
    fn default() -> Pieces<T, LEAF> {
        Pieces {
            root: None,
            height: 0,
            len: 0,
        }
    }
}

impl<T: Clone, const LEAF: usize> Pieces<T, LEAF> {
    const LEAF_BITS: u32 = LEAF.trailing_zeros();

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        let mut piece = self.root.as_deref()?;
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        loop {
            match piece {
                Piece::Leaf(items) => return items.get(at & (LEAF - 1)).filter(|_| at < self.len),
                Piece::Over(under) => {
                    shift -= FAN_BITS;
                    piece = under.get((at >> shift) & (FAN - 1))?;
                }
            }
        }
    }

    /// A place to change. What is shared on the way to it is copied.
    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        if at >= self.len {
            return None;
        }
        let mut piece = Arc::make_mut(self.root.as_mut()?);
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        loop {
            match piece {
                Piece::Leaf(items) => return items.get_mut(at & (LEAF - 1)),
                Piece::Over(under) => {
                    shift -= FAN_BITS;
                    piece = Arc::make_mut(under.get_mut((at >> shift) & (FAN - 1))?);
                }
            }
        }
    }

    pub fn push(&mut self, item: T) {
        if self.len == LEAF << (self.height * FAN_BITS)
            && let Some(root) = self.root.take()
        {
            self.root = Some(Arc::new(Piece::Over(vec![root])));
            self.height += 1;
        }
        let at = self.len;
        self.len += 1;
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        let root = self
            .root
            .get_or_insert_with(|| Arc::new(Piece::Leaf(Vec::new())));
        let mut piece = Arc::make_mut(root);
        loop {
            match piece {
                Piece::Leaf(items) => {
                    items.push(item);
                    return;
                }
                Piece::Over(under) => {
                    shift -= FAN_BITS;
                    let index = (at >> shift) & (FAN - 1);
                    if index == under.len() {
                        under.push(Arc::new(match shift > Self::LEAF_BITS {
                            true => Piece::Over(Vec::new()),
                            false => Piece::Leaf(Vec::new()),
                        }));
                    }
                    // There is one at `index`: it was there, or it was made just now.
                    let Some(next) = under.get_mut(index) else {
                        return;
                    };
                    piece = Arc::make_mut(next);
                }
            }
        }
    }

    pub fn pop(&mut self) -> Option<T> {
        let at = self.len.checked_sub(1)?;
        let item = pop_under(Arc::make_mut(self.root.as_mut()?))?;
        self.len = at;
        // A root with one piece under it is one step too high.
        while self.height > 0 && at <= LEAF << ((self.height - 1) * FAN_BITS) {
            let only = match self.root.as_deref() {
                Some(Piece::Over(under)) => under.first().cloned(),
                _ => None,
            };
            self.root = only;
            self.height -= 1;
        }
        if at == 0 {
            self.root = None;
            self.height = 0;
        }
        Some(item)
    }
}

fn pop_under<T: Clone>(piece: &mut Piece<T>) -> Option<T> {
    match piece {
        Piece::Leaf(items) => items.pop(),
        Piece::Over(under) => {
            let last = Arc::make_mut(under.last_mut()?);
            let item = pop_under(last);
            let empty = match last {
                Piece::Leaf(items) => items.is_empty(),
                Piece::Over(under) => under.is_empty(),
            };
            if empty {
                under.pop();
            }
            item
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    #[test]
    fn a_copy_stays_as_it_was_and_what_is_popped_comes_back_in_order() {
        let mut list: Pieces<usize, 4> = Pieces::default();
        for n in 0..10_000 {
            list.push(n);
        }
        let copy = list.clone();
        for n in (0..10_000).step_by(7) {
            *list.get_mut(n).expect("a place") += 1;
        }
        for n in 0..10_000 {
            assert_eq!(copy.get(n), Some(&n));
            assert_eq!(list.get(n), Some(&(n + usize::from(n % 7 == 0))));
        }
        for n in (0..10_000).rev() {
            assert_eq!(list.pop(), Some(n + usize::from(n % 7 == 0)));
            assert_eq!(list.get(n), None);
        }
        assert_eq!((list.pop(), list.len(), copy.len()), (None, 0, 10_000));
        list.push(5);
        assert_eq!(list.get(0), Some(&5));
    }
}
