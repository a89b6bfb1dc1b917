//! Lists: rows, the newest first, in pages, and of these what somebody asks for.

use serde_json::{Map, Value, json};

use super::{Answer, Clerk};
use crate::command::{Filter, Listing, Rows};
use crate::moment::Moment;
use crate::store::{self, Page, Store, StoreError};

/// Rows that one look reads where each has to be judged.
const AT_ONCE: i64 = 500;
/// Rows that one page looks at; who wants to see more asks for the next.
const MOST: i64 = 100_000;

/// A page of rows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Those that a table shows.
    pub columns: Vec<String>,
    pub rows: Vec<Map<String, Value>>,
    /// What the next page comes after; nothing where this is the last.
    pub next: Option<String>,
}

/// The rows that a list asks for, of one organisation where one is named.
pub async fn rows(
    store: &Store,
    listing: &Listing,
    organization: Option<&str>,
    now: Moment,
) -> Result<Shown, StoreError> {
    let wanted = usize::try_from(listing.limit).unwrap_or(usize::MAX);
    let judges = listing.filter.judges();
    let mut shown = Shown::default();
    let mut after = listing.after.clone();
    let (mut left_out, mut looked) = (0, 0);
    loop {
        let page = Page {
            organization: organization.map(str::to_owned),
            state: None,
            // One more tells whether there is another page.
            limit: if judges { AT_ONCE } else { listing.limit + 1 },
            offset: if judges { 0 } else { listing.offset },
            after: after.clone(),
            only: listing.filter.only(listing.rows, now),
        };
        let limit = page.limit;
        let found = store.list(listing.rows.noun(), &page).await?;
        let found = found.unwrap_or_default();
        shown.columns = found.columns;
        let more = found.rows.len() as i64 == limit;
        for row in found.rows {
            looked += 1;
            if shown.rows.len() == wanted {
                shown.next = Some(after);
                return Ok(shown);
            }
            after = store::Listing::position(&row);
            if !listing.filter.wants(&row, now) {
                continue;
            }
            if judges && left_out < listing.offset {
                left_out += 1;
                continue;
            }
            shown.rows.push(row);
        }
        if !more || !judges {
            return Ok(shown);
        }
        if looked >= MOST {
            shown.next = Some(after);
            return Ok(shown);
        }
    }
}

impl Clerk<'_> {
    pub(super) async fn list(&self, listing: &Listing) -> Result<Answer, StoreError> {
        let shown = rows(
            &self.ground.store,
            listing,
            self.bound,
            self.ground.clock.now(),
        )
        .await?;
        let mut answer = Map::new();
        answer.insert(listing.rows.plural().to_owned(), json!(shown.rows));
        answer.insert("next".to_owned(), json!(shown.next));
        Ok(Ok(Value::Object(answer)))
    }

    /// Every row that is like this.
    pub(super) async fn all_like(
        &self,
        rows: Rows,
        filter: &Filter,
    ) -> Result<Vec<Map<String, Value>>, StoreError> {
        let mut listing = Listing {
            rows,
            filter: filter.clone(),
            limit: AT_ONCE,
            offset: 0,
            after: String::new(),
        };
        let mut found = Vec::new();
        loop {
            let shown = self::rows(
                &self.ground.store,
                &listing,
                self.bound,
                self.ground.clock.now(),
            )
            .await?;
            found.extend(shown.rows);
            match shown.next {
                Some(next) => listing.after = next,
                None => return Ok(found),
            }
        }
    }
}
