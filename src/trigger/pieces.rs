//! A list in pieces that are shared until they change: a copy costs nothing, a change of one place copies the few
//! pieces on the way to it. So a reader keeps the list as it was while a writer goes on.

use std::sync::Arc;

/// How many pieces stand under one.
const FAN: usize = 16;
const FAN_BITS: u32 = FAN.trailing_zeros();

/// `LEAF` neighbours lie together; a power of two. What is free is as [`Default`] has it.
#[derive(Debug)]
pub(crate) struct Pieces<T, const LEAF: usize> {
    root: Option<Arc<Piece<T, LEAF>>>,
    /// How often one has to step down from the root to the neighbours.
    height: u32,
    len: usize,
}

/// All of a piece lies in one place, so that a step down is one look into memory.
#[derive(Clone, Debug)]
enum Piece<T, const LEAF: usize> {
    Over([Option<Arc<Piece<T, LEAF>>>; FAN]),
    Leaf([T; LEAF]),
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

/// On the way to a place.
pub(crate) struct Spot<'p, T, const LEAF: usize> {
    piece: Option<&'p Piece<T, LEAF>>,
    at: usize,
}

impl<'p, T, const LEAF: usize> Spot<'p, T, LEAF> {
    /// What is there, when it has been approached.
    #[inline]
    pub fn item(&self) -> Option<&'p T> {
        match self.piece? {
            Piece::Leaf(items) => items.get(self.at & (LEAF - 1)),
            Piece::Over(_) => None,
        }
    }
}

impl<T: Clone + Default, const LEAF: usize> Pieces<T, LEAF> {
    const LEAF_BITS: u32 = LEAF.trailing_zeros();

    pub fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        if at >= self.len {
            return None;
        }
        let mut piece = self.root.as_deref()?;
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        loop {
            match piece {
                Piece::Leaf(items) => return items.get(at & (LEAF - 1)),
                Piece::Over(under) => {
                    shift -= FAN_BITS;
                    piece = under.get((at >> shift) & (FAN - 1))?.as_deref()?;
                }
            }
        }
    }

    #[inline]
    pub fn spot(&self, at: usize) -> Spot<'_, T, LEAF> {
        let root = self.root.as_deref();
        Spot {
            piece: root.filter(|_| at < self.len),
            at,
        }
    }

    /// Goes to several places, a step down to all of them and then the next, so that they wait for the memory together.
    pub fn approach<'s, 'p: 's>(&'p self, spots: impl Iterator<Item = &'s mut Spot<'p, T, LEAF>>)
    where
        T: 's,
    {
        let mut spots: Vec<&mut Spot<'p, T, LEAF>> = spots.collect();
        for height in (0..self.height).rev() {
            let shift = Self::LEAF_BITS + height * FAN_BITS;
            for spot in &mut spots {
                if let Some(Piece::Over(under)) = spot.piece {
                    let next = under.get((spot.at >> shift) & (FAN - 1));
                    spot.piece = next.and_then(Option::as_deref);
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
                    let next = under.get_mut((at >> shift) & (FAN - 1))?;
                    piece = Arc::make_mut(next.as_mut()?);
                }
            }
        }
    }

    pub fn push(&mut self, item: T) {
        if self.len == LEAF << (self.height * FAN_BITS)
            && let Some(root) = self.root.take()
        {
            let mut under = [const { None }; FAN];
            if let Some(first) = under.first_mut() {
                *first = Some(root);
            }
            self.root = Some(Arc::new(Piece::Over(under)));
            self.height += 1;
        }
        let at = self.len;
        self.len += 1;
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        let mut place = &mut self.root;
        loop {
            let high = shift > Self::LEAF_BITS;
            let piece = place.get_or_insert_with(|| {
                Arc::new(match high {
                    true => Piece::Over([const { None }; FAN]),
                    false => Piece::Leaf(std::array::from_fn(|_| T::default())),
                })
            });
            match Arc::make_mut(piece) {
                Piece::Leaf(items) => {
                    if let Some(free) = items.get_mut(at & (LEAF - 1)) {
                        *free = item;
                    }
                    return;
                }
                Piece::Over(under) => {
                    shift -= FAN_BITS;
                    let Some(next) = under.get_mut((at >> shift) & (FAN - 1)) else {
                        return;
                    };
                    place = next;
                }
            }
        }
    }

    pub fn pop(&mut self) -> Option<T> {
        let at = self.len.checked_sub(1)?;
        let item = std::mem::take(self.get_mut(at)?);
        self.len = at;
        if at.is_multiple_of(LEAF) {
            self.cut(at);
        }
        // A root with one piece under it is one step too high.
        while self.height > 0 && at <= LEAF << ((self.height - 1) * FAN_BITS) {
            self.root = match self.root.as_deref() {
                Some(Piece::Over(under)) => under.first().cloned().flatten(),
                _ => None,
            };
            self.height -= 1;
        }
        if at == 0 {
            self.root = None;
        }
        Some(item)
    }

    /// Lets the pieces go that begin at a place, behind which there is nothing.
    fn cut(&mut self, at: usize) {
        let Some(root) = &mut self.root else { return };
        let mut piece = Arc::make_mut(root);
        let mut shift = Self::LEAF_BITS + self.height * FAN_BITS;
        while let Piece::Over(under) = piece {
            shift -= FAN_BITS;
            let Some(next) = under.get_mut((at >> shift) & (FAN - 1)) else {
                return;
            };
            if at & ((1 << shift) - 1) == 0 {
                *next = None;
                return;
            }
            let Some(next) = next else { return };
            piece = Arc::make_mut(next);
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
            assert_eq!(list.get(n / 2).is_some(), n > 0);
        }
        assert_eq!((list.pop(), list.len(), copy.len()), (None, 0, 10_000));
        list.push(5);
        assert_eq!(list.get(0), Some(&5));
    }
}
