//! From an offset in bytes to a line and a column.

use super::Place;

/// One known place for every so many bytes, so that a file of a single long line is not counted through from its start
/// for each of its values.
const STEP: usize = 256;

pub(super) struct Places<'a> {
    bytes: &'a [u8],
    marks: Vec<Place>,
}

impl<'a> Places<'a> {
    pub fn of(bytes: &'a [u8]) -> Places<'a> {
        let mut marks = Vec::with_capacity(bytes.len() / STEP + 1);
        let mut place = Place { line: 1, column: 1 };
        for chunk in bytes.chunks(STEP) {
            marks.push(place);
            place = past(place, chunk);
        }
        marks.push(place);
        Places { bytes, marks }
    }

    /// The place of the character at an offset; past the end, the end.
    pub fn at(&self, offset: usize) -> Place {
        let offset = offset.min(self.bytes.len());
        let mark = offset / STEP;
        let place = self.marks.get(mark).copied();
        let rest = self.bytes.get(mark * STEP..offset).unwrap_or_default();
        past(place.unwrap_or(Place { line: 1, column: 1 }), rest)
    }
}

fn past(mut place: Place, bytes: &[u8]) -> Place {
    for &byte in bytes {
        if byte == b'\n' {
            place.line = place.line.saturating_add(1);
            place.column = 1;
        } else if byte & 0xc0 != 0x80 {
            // Not the inside of a character: UTF-8 marks those bytes with 10.
            place.column = place.column.saturating_add(1);
        }
    }
    place
}
