//! What a query may cost before it is understood: hostile text is refused while it is still cheap.

use super::diagnose::{Diagnostic, Source, Span};
use super::syntax::Operand;

pub const LENGTH: usize = 16 * 1024;
pub const NESTING: usize = 32;
pub const CONDITIONS: usize = 512;
pub const ITEMS: usize = 1_000;
pub const LITERALS: usize = 2_000;
pub const NOTS: usize = 16;
pub const SEGMENTS: usize = 8;
pub const IDENTIFIER: usize = 64;
pub const STRING: usize = 4 * 1024;
pub const QUANTIFIERS: usize = 3;
pub const PATTERN: usize = 256;
pub const PATTERN_COMPILED: usize = 64 * 1024;
pub const NETWORKS: usize = 256;
pub const STEPS: u32 = 100_000;
pub const ERRORS: usize = 10;

type Outcome = Result<(), Box<Diagnostic>>;

/// Length and nesting, before the text meets a recursive parser.
pub(crate) fn before_parsing(source: &Source) -> Outcome {
    let text = &*source.text;
    if text.len() > LENGTH {
        let mut cut = LENGTH;
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        return Err(Box::new(source.error(
            "Q302",
            format!(
                "the query is {} bytes long; the limit is {LENGTH}",
                text.len()
            ),
            Span::at(cut),
            "the limit is here",
        )));
    }
    let (deepest, crossing) = nesting(text);
    match crossing {
        None => Ok(()),
        Some(span) => Err(Box::new(too_deep(source, deepest, span))),
    }
}

/// Length and nesting of the canonical text, so that what is stored can always be read again.
pub(crate) fn canonical(source: &Source, text: &str, span: Span) -> Outcome {
    if text.len() > LENGTH {
        return Err(Box::new(source.error(
            "Q302",
            format!(
                "the canonical text of the query is {} bytes long; the limit is {LENGTH}",
                text.len()
            ),
            Span::at(span.start),
            "the query",
        )));
    }
    match nesting(text) {
        (_, None) => Ok(()),
        (deepest, Some(_)) => Err(Box::new(
            too_deep(source, deepest, Span::at(span.start)).note(
                "an `and` inside an `or` counts, because the canonical text puts it in parentheses",
            ),
        )),
    }
}

fn too_deep(source: &Source, deepest: usize, span: Span) -> Diagnostic {
    source.error(
        "Q301",
        format!("the query is nested {deepest} deep; the limit is {NESTING}"),
        span,
        "crosses the limit",
    )
}

/// The depth of parentheses outside strings, and the first that is too deep.
fn nesting(text: &str) -> (usize, Option<Span>) {
    let mut depth = 0_usize;
    let mut deepest = 0;
    let mut crossing = None;
    let mut quote: Option<u8> = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(open) = quote {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                // A line end closes nothing, but no string holds one: what follows is not inside a string.
                b'\n' | b'\r' => quote = None,
                _ if byte == open => quote = None,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' | b'\'' => quote = Some(byte),
            b'(' => {
                depth += 1;
                deepest = deepest.max(depth);
                if depth > NESTING && crossing.is_none() {
                    crossing = Some(Span::new(at, at + 1));
                }
            }
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest, crossing)
}

/// Running totals while the tree is built. Each limit is reported once, where it is crossed.
#[derive(Default)]
pub(crate) struct Counts {
    conditions: usize,
    literals: usize,
    quantifiers: usize,
}

impl Counts {
    pub fn condition(&mut self, source: &Source, span: Span) -> Outcome {
        self.conditions += 1;
        crossed(
            source,
            self.conditions == CONDITIONS + 1,
            "Q303",
            || {
                format!(
                    "the query has more than {CONDITIONS} conditions; the limit is {CONDITIONS}"
                )
            },
            span,
        )
    }

    pub fn literal(&mut self, source: &Source, span: Span) -> Outcome {
        self.literals += 1;
        crossed(
            source,
            self.literals == LITERALS + 1,
            "Q305",
            || format!("the query has more than {LITERALS} literals; the limit is {LITERALS}"),
            span,
        )
    }

    /// `below` are those that stand behind a parenthesis; the canonical text writes all of them in one row.
    pub fn nots(&mut self, source: &Source, nots: &[Span], below: usize) -> Outcome {
        let row = nots.len() + below;
        let crossing = nots.get(NOTS).or(nots.first());
        crossed(
            source,
            row > NOTS && !nots.is_empty(),
            "Q306",
            || format!("there are {row} `not` in a row; the limit is {NOTS}"),
            crossing.copied().unwrap_or_default(),
        )
    }

    pub fn enter_quantifier(&mut self, source: &Source, span: Span) -> Outcome {
        self.quantifiers += 1;
        crossed(
            source,
            self.quantifiers == QUANTIFIERS + 1,
            "Q310",
            || {
                format!(
                    "quantifiers are nested {} deep; the limit is {QUANTIFIERS}",
                    QUANTIFIERS + 1
                )
            },
            span,
        )
    }

    pub fn leave_quantifier(&mut self) {
        self.quantifiers = self.quantifiers.saturating_sub(1);
    }
}

pub(crate) fn items(source: &Source, items: &[Operand]) -> Outcome {
    let span = items.get(ITEMS).map(|item| item.span).unwrap_or_default();
    crossed(
        source,
        items.len() > ITEMS,
        "Q304",
        || format!("the list has {} items; the limit is {ITEMS}", items.len()),
        span,
    )
}

pub(crate) fn path(source: &Source, segments: &[String], span: Span) -> Outcome {
    crossed(
        source,
        segments.len() > SEGMENTS,
        "Q307",
        || {
            format!(
                "the path has {} segments; the limit is {SEGMENTS}",
                segments.len()
            )
        },
        span,
    )?;
    let longest = segments.iter().max_by_key(|segment| segment.len());
    identifier(source, longest.map_or("", String::as_str), span)
}

pub(crate) fn identifier(source: &Source, name: &str, span: Span) -> Outcome {
    crossed(
        source,
        name.len() > IDENTIFIER,
        "Q308",
        || {
            format!(
                "the name is {} bytes long; the limit is {IDENTIFIER}",
                name.len()
            )
        },
        span,
    )
}

pub(crate) fn string(source: &Source, length: usize, span: Span) -> Outcome {
    crossed(
        source,
        length > STRING,
        "Q309",
        || format!("the string is {length} bytes long; the limit is {STRING}"),
        span,
    )
}

fn crossed(
    source: &Source,
    crossed: bool,
    code: &'static str,
    message: impl FnOnce() -> String,
    span: Span,
) -> Outcome {
    if crossed {
        return Err(Box::new(source.error(
            code,
            message(),
            span,
            "crosses the limit",
        )));
    }
    Ok(())
}
