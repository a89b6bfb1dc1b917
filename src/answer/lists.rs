//! Lists: rows, the newest first, in pages, and of these what somebody asks for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Answer, Clerk};
use crate::command::{Filter, Listing, Rows};
use crate::moment::Moment;
use crate::store::{self, Page, Store, StoreError};

/// Rows that one look reads where each has to be judged.
const AT_ONCE: i64 = 500;
/// Rows that one page looks at; who wants to see more asks for the next.
const MOST: i64 = 100_000;

/// Rows that a screen looks through at once.
const WINDOW: i64 = 10_000;
/// How often it does, before it shows what it has found.
const WINDOWS: i64 = 2;
/// Of tasks that are under way, each of which has to be found.
const UNDER_WAY: i64 = 1000;

/// A page of rows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Those that a table shows.
    pub columns: Vec<String>,
    pub rows: Vec<Map<String, Value>>,
    /// What the next page comes after; nothing where this is the last.
    pub next: Option<String>,
    /// So many rows were looked through, and there are more of which nobody knows yet.
    pub through: Option<i64>,
}

/// The rows that a list asks for, of one organisation where one is named.
pub async fn rows(
    store: &Store,
    listing: &Listing,
    organization: Option<&str>,
    now: Moment,
) -> Result<Shown, StoreError> {
    let only = listing.filter.only(listing.rows, now);
    rows_of(store, listing, organization, now, &only, "").await
}

/// The same for somebody who looks again and again: what no index finds is looked for among a bounded number of rows,
/// the newest after the page before, however many there are.
pub async fn rows_at_a_glance(
    store: &Store,
    listing: &Listing,
    organization: Option<&str>,
    now: Moment,
) -> Result<Shown, StoreError> {
    let mut only = listing.filter.only(listing.rows, now);
    let says = |column: &str| only.get(column).map(Vec::as_slice).unwrap_or_default();
    let whole = organization.is_none() && only.is_empty() && !listing.filter.judges();
    let found = ["id", "run_id", "task_id"]
        .iter()
        .any(|id| says(id).len() == 1);
    let dead = matches!(says("state"), [dead] if dead == "dead");
    let windowed = matches!(listing.rows, Rows::Run | Rows::Task);
    if whole || found || dead || !windowed {
        return rows_of(store, listing, organization, now, &only, "").await;
    }
    let under_way = listing.rows == Rows::Task
        && !says("state").is_empty()
        && says("state")
            .iter()
            .all(|state| matches!(state.as_str(), "dispatched" | "running"));
    let mut part = listing.clone();
    let mut shown = Shown::default();
    for _ in 0..WINDOWS {
        let end = if under_way {
            let ids = store.newest_under_way(&part.after, UNDER_WAY).await?;
            let last = ids.last().filter(|_| ids.len() as i64 == UNDER_WAY);
            let last = last.cloned();
            only.insert("id".to_owned(), ids);
            last
        } else {
            store.place(part.rows.noun(), &part.after, WINDOW).await?
        };
        let down_to = end.as_deref().unwrap_or_default();
        let found = rows_of(store, &part, organization, now, &only, down_to).await?;
        part.limit -= found.rows.len() as i64;
        shown.rows.extend(found.rows);
        shown.columns = found.columns;
        shown.next = found.next.or(end.clone());
        match end {
            Some(end) if part.limit > 0 && shown.next.as_ref() == Some(&end) => part.after = end,
            _ => return Ok(shown),
        }
    }
    shown.through = Some(WINDOWS * if under_way { UNDER_WAY } else { WINDOW });
    Ok(shown)
}

async fn rows_of(
    store: &Store,
    listing: &Listing,
    organization: Option<&str>,
    now: Moment,
    only: &BTreeMap<String, Vec<String>>,
    down_to: &str,
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
            down_to: down_to.to_owned(),
            only: only.clone(),
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
